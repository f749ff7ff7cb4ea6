import { afterAll, beforeAll, expect, test } from 'vitest'
import { denseCaptions, plainCaption, prompt } from '../../../recipes/emoji/captions.ts'
import { backgroundCalled } from '../../../recipes/emoji/colour.ts'
import { drawComposition, type Composition, type Layout } from '../../../recipes/emoji/composition.ts'
import { Draws } from '../../../recipes/emoji/draws.ts'
import { curatedStyle, recipeFor } from '../../../recipes/emoji/recipes.ts'
import type { Renders } from '../../../recipes/emoji/render.ts'
import type { Style } from '../../../recipes/emoji/vocabulary.ts'
import { fewRenders, itemCalled } from './renders.ts'

let renders: Renders
beforeAll(async () => {
  renders = await fewRenders()
})
afterAll(async () => renders[Symbol.asyncDispose]())

const composed = (layout: Layout, ...names: readonly [string, ...string[]]): Composition => {
  const [first, ...others] = names.map((name) => ({
    item: itemCalled(name),
    centreX: 0,
    centreY: 0,
    width: 1,
    height: 1,
  }))
  const objects: Composition['objects'] = [first!, ...others]
  return {
    width: 128,
    height: 128,
    style: 'noto',
    background: backgroundCalled('pale blue'),
    layout,
    objects,
  }
}
const portrait: Layout = { kind: 'one', placement: 'centre', size: 'large' }
const dense = (composition: Composition, seed: number) =>
  denseCaptions(composition, new Draws(seed), renders.appearance.bind(renders))

test.each<[Composition, string]>([
  [composed(portrait, 'red apple'), 'a red apple in noto style on a pale blue background'],
  [
    composed({ kind: 'one', placement: 'top left', size: 'small' }, 'octopus'),
    'an octopus in noto style on a pale blue background, small, in the top left corner',
  ],
  [
    composed({ kind: 'several', count: 2, arrangement: 'row' }, 'red apple', 'red apple'),
    'two red apples side by side in noto style on a pale blue background',
  ],
  [
    composed({ kind: 'several', count: 3, arrangement: 'column' }, 'grapes', 'grapes', 'grapes'),
    'three grapes emoji in a column in noto style on a pale blue background',
  ],
  [
    composed({ kind: 'together', arrangement: 'row' }, 'dog face', 'umbrella'),
    'a dog face to the left of an umbrella in noto style on a pale blue background',
  ],
  [
    composed({ kind: 'together', arrangement: 'column' }, 'rocket', 'grapes', 'thumbs up'),
    'a rocket, grapes and a thumbs up emoji from top to bottom in noto style on a pale blue background',
  ],
])('a prompt names all that matters (%#)', (composition, expected) => {
  expect(prompt(composition)).toBe(expected)
})

test('a dense caption says what it is, its tags, style, measured colours, place and background', () => {
  const apple = composed({ kind: 'one', placement: 'bottom right', size: 'small' }, 'red apple')
  for (let seed = 0; seed < 50; seed++)
    for (const caption of dense(apple, seed).slice(0, 2)) {
      for (const said of ['a red apple', 'noto style', 'red', 'pale blue']) expect(caption).toContain(said)
      expect(caption).toMatch(/bottom right corner|lower right/)
      expect(caption).toMatch(/small|little/)
      expect(caption).toMatch(/diet|food|fruit|health|ripe/)
    }
})

test('phrasings differ, and a seed decides them', () => {
  const apple = composed(portrait, 'red apple')
  expect(dense(apple, 1)).toEqual(dense(apple, 1))
  expect(dense(apple, 1)).toHaveLength(4)
  const all = Array.from({ length: 40 }, (_, seed) => dense(apple, seed)).flat()
  expect(new Set(all).size).toBeGreaterThan(75)
})

test('only the curated style goes without saying', () => {
  const apple = composed(portrait, 'red apple')
  const short = (style: Style) =>
    Array.from({ length: 60 }, (_, seed) => dense({ ...apple, style }, seed).slice(2)).flat()
  expect(short('noto').every((caption) => caption.includes('noto style'))).toBe(true)
  expect(short(curatedStyle)).toContain('a red apple')
})

test('captions of drawn compositions are whole sentences of one language', () => {
  const recipe = recipeFor('compositions', 128, renders.items)
  for (let index = 0; index < 400; index++) {
    const composition = drawComposition(new Draws(3, index), recipe, renders.appearance.bind(renders))
    for (const caption of [...dense(composition, index), prompt(composition)]) {
      expect(caption).not.toMatch(
        /undefined|NaN|\s{2}|\s[,;:.]|[,;:]$|\ban? an?\b|\ba [aeio]|\ban [^aeioux8hSNIA]/,
      )
      expect(caption.split(' ').length).toBeLessThan(70)
    }
  }
})

test('a plain caption is the names and nothing else', () => {
  expect(plainCaption(composed(portrait, 'red apple'))).toBe('red apple')
  expect(plainCaption(composed({ kind: 'several', count: 2, arrangement: 'row' }, 'rocket', 'rocket'))).toBe(
    'rocket',
  )
  expect(plainCaption(composed({ kind: 'together', arrangement: 'row' }, 'rocket', 'octopus'))).toBe(
    'rocket, octopus',
  )
})
