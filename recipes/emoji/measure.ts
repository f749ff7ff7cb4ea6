/** What can be told of an icon from its pixels: the colours it has, and the backgrounds on which it would not be seen. */
import { colourDistance, oklab } from '../../src/evaluation/oklab.ts'
import type { Sprite } from '../../src/evaluation/picture.ts'
import { backgrounds, partColourName } from './colour.ts'

export interface Measured {
  /** Names of the colours of its parts and the share of its area that each covers, the largest first. */
  readonly colours: readonly (readonly [name: string, share: number])[]
  /** Names of the backgrounds into which most of its outline would vanish. */
  readonly vanishesOn: readonly string[]
}

/** Of a colour that is worth a word. */
const smallestShare = 0.07
/** ΔE under which an edge is hard to see, and the share of the outline that may be. */
const hardToSee = 0.07
const vanishingShare = 0.4

export function measure(sprite: Sprite): Measured {
  const { width, height, pixels } = sprite
  const areas = new Map<string, number>()
  const outline: (readonly [red: number, green: number, blue: number])[] = []
  let area = 0
  const solid = (x: number, y: number) =>
    x >= 0 && y >= 0 && x < width && y < height && pixels[(y * width + x) * 4 + 3]! >= 128
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      if (!solid(x, y)) continue
      const colour = straight(sprite, x, y)
      const name = partColourName(...colour)
      areas.set(name, (areas.get(name) ?? 0) + 1)
      area++
      // A pixel inwards, since the outermost ones are blended already.
      if (![-2, 2].every((step) => solid(x + step, y) && solid(x, y + step))) outline.push(colour)
    }
  const edges = outline.map((colour) => oklab(...colour))
  return {
    colours: [...areas]
      .map(([name, count]) => [name, count / area] as const)
      .filter(([, share]) => share >= smallestShare)
      .sort(([, one], [, other]) => other - one),
    vanishesOn: backgrounds
      .filter(
        ({ lab }) =>
          edges.filter((edge) => colourDistance(edge, lab) < hardToSee).length >
          vanishingShare * edges.length,
      )
      .map(({ name }) => name),
  }
}

/** A pixel's colour with alpha divided out. */
function straight({ width, pixels }: Sprite, x: number, y: number) {
  const at = (y * width + x) * 4
  const channel = (offset: number) =>
    Math.min(255, Math.round((pixels[at + offset]! * 255) / pixels[at + 3]!))
  return [channel(0), channel(1), channel(2)] as const
}
