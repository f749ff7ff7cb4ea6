import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bucketsFor } from '../../../src/diffusion/buckets.ts'
import { backgrounds } from '../../../recipes/emoji/colour.ts'
import {
  drawComposition,
  heldOutShare,
  isHeldOut,
  placementAt,
  placements,
  type Composition,
} from '../../../recipes/emoji/composition.ts'
import { Draws } from '../../../recipes/emoji/draws.ts'
import { kinds, recipeFor, type Kind } from '../../../recipes/emoji/recipes.ts'
import { vocabulary } from '../../../recipes/emoji/vocabulary.ts'
import type { Renders } from '../../../recipes/emoji/render.ts'
import { fewRenders } from './renders.ts'

let renders: Renders
beforeAll(async () => {
  renders = await fewRenders()
})
afterAll(async () => renders[Symbol.asyncDispose]())

const drawn = (kind: Kind, count: number): Composition[] =>
  Array.from({ length: count }, (_, index) =>
    drawComposition(
      new Draws(7, index),
      recipeFor(kind, 128, renders.items),
      renders.appearance.bind(renders),
    ),
  )
const edges = ({ centreX, centreY, width, height }: Composition['objects'][number]) => ({
  left: centreX - width / 2,
  right: centreX + width / 2,
  top: centreY - height / 2,
  bottom: centreY + height / 2,
})

test('a seed decides everything', () => {
  expect(drawn('compositions', 20)).toEqual(drawn('compositions', 20))
})

describe.each(kinds)('%s', (kind) => {
  test('has everything inside the picture, in proportion, apart, and seen', () => {
    for (const { width, height, objects, style, background } of drawn(kind, 120)) {
      expect(bucketsFor(128)).toContainEqual({ width, height })
      for (const [index, object] of objects.entries()) {
        const { left, right, top, bottom } = edges(object)
        expect(Math.min(left, top, width - right, height - bottom)).toBeGreaterThanOrEqual(0)
        const appearance = renders.appearance(style, object.item.id)
        expect(object.width / object.height).toBeCloseTo(appearance.width / appearance.height, 9)
        expect(appearance.vanishesOn).not.toContain(background.name)
        const others = objects.slice(index + 1).map(edges)
        expect(others.filter((other) => right > other.left && bottom > other.top)).toEqual([])
      }
    }
  })

  test('keeps to its side of the border between what is trained on and what is not', () => {
    expect(drawn(kind, 100).map(isHeldOut)).toEqual(Array(100).fill(kind === 'held-out'))
  })
})

test('a thing lies where its placement says', () => {
  const third = (at: number, extent: number) => (at / extent < 0.4 ? -1 : at / extent > 0.6 ? 1 : 0)
  const seen = new Set<string>()
  for (const { layout, objects, width, height } of drawn('compositions', 300)) {
    if (layout.kind !== 'one') continue
    const [object] = objects
    const across = layout.placement.includes('left') ? -1 : layout.placement.includes('right') ? 1 : 0
    const down = layout.placement.includes('top') ? -1 : layout.placement.includes('bottom') ? 1 : 0
    expect([third(object.centreX, width), third(object.centreY, height)]).toEqual([across, down])
    expect(placementAt(object.centreX, object.centreY, { width, height })).toBe(layout.placement)
    seen.add(layout.placement)
  }
  expect([...seen].toSorted()).toEqual([...placements].toSorted())
})

test('one combination in twenty is held out, whatever the style or the size', () => {
  let [heldOut, all] = [0, 0]
  for (const item of vocabulary.slice(0, 50))
    for (const background of backgrounds)
      for (const placement of placements) {
        all++
        const object = { item, centreX: 0, centreY: 0, width: 1, height: 1 }
        const layout = { kind: 'one', placement, size: 'small' } as const
        if (!isHeldOut({ background, layout, objects: [object] })) continue
        heldOut++
        expect(isHeldOut({ background, layout: { ...layout, size: 'large' }, objects: [object] })).toBe(true)
      }
  // Five standard deviations of a binomial distribution.
  expect(Math.abs(heldOut - heldOutShare * all)).toBeLessThan(
    5 * Math.sqrt(all * heldOutShare * (1 - heldOutShare)),
  )
})

test('a recipe without a way out is refused', () => {
  const [item] = renders.items
  const recipe = {
    ...recipeFor('single', 128, [item!]),
    part: 'held-out',
    backgrounds: [[backgrounds[0]!, 1]],
  } as const
  const isIt = isHeldOut({
    background: backgrounds[0]!,
    layout: { kind: 'one', placement: 'centre', size: 'large' },
    objects: [{ item: item!, centreX: 0, centreY: 0, width: 1, height: 1 }],
  })
  expect(isIt).toBe(false)
  expect(() => drawComposition(new Draws(1), recipe, renders.appearance.bind(renders))).toThrow(
    'recipe: expected compositions that are held-out, and a thousand draws gave none',
  )
})
