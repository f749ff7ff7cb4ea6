/** What is right about a picture, and how often that is so. */
import { nearest, type Neighbour, type Seen } from './features.ts'
import type { Gallery } from './gallery.ts'
import { colourDistance, oklab } from './oklab.ts'
import { proportion, type Proportion } from './proportion.ts'
import type { Expectation } from './suite.ts'

/**
 * `top1` and `top5`: the item is the nearest, or among the five nearest, of all items on the background that the picture has.
 * `background`: the measured one is within `backgroundBound` of the one that was asked for. `placement`: the middle of all that stands
 * out is within `placementBound` of where it was asked to be.
 */
export const measures = ['top1', 'top5', 'background', 'placement'] as const
export type Measure = (typeof measures)[number]

/** ΔE in OKLab. 0.02 is just seen. */
export const backgroundBound = 0.05
/** In shares of the picture's sides: not quite half way from one of nine places to the next. */
export const placementBound = 0.11

/** A picture, as far as it is measured. */
export interface Sighting extends Seen {
  readonly width: number
  readonly height: number
}

export interface Verdict {
  /** The five nearest items, the nearest first; none when nothing stands out or there are no references. */
  readonly neighbours: readonly Neighbour[]
  /** ΔE from the background that was asked for, and distance from the place; undefined when none was, or nothing stands out. */
  readonly backgroundDistance: number | undefined
  readonly placementDistance: number | undefined
  /** Of what was asked for. */
  readonly right: ReadonlyMap<Measure, boolean>
}

/** @param gallery of all items on the picture's background; empty where there are no references */
export function judge(sighting: Sighting, expect: Expectation, gallery: Gallery): Verdict {
  const { item, background, placement } = expect
  const neighbours = sighting.box ? nearest(sighting.features, gallery, 5) : []
  const backgroundDistance = background && colourDistance(sighting.background, oklab(...background.rgb))
  const placementDistance = placement && distanceTo(placement, sighting)
  const right = new Map<Measure, boolean>()
  if (item !== undefined) {
    right.set('top1', neighbours[0]?.id === item)
    right.set(
      'top5',
      neighbours.some(({ id }) => id === item),
    )
  }
  if (backgroundDistance !== undefined) right.set('background', backgroundDistance <= backgroundBound)
  if (placement) right.set('placement', (placementDistance ?? Infinity) <= placementBound)
  return { neighbours, backgroundDistance, placementDistance, right }
}

function distanceTo(
  point: { readonly x: number; readonly y: number },
  { box, width, height }: Sighting,
): number | undefined {
  if (!box) return undefined
  const [x, y] = [(box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height]
  return Math.hypot(x - point.x, y - point.y)
}

/** @returns the share of each measure that was asked for at all */
export function sharesOf(verdicts: readonly Verdict[]): ReadonlyMap<Measure, Proportion> {
  const shares = measures.flatMap((measure): readonly (readonly [Measure, Proportion])[] => {
    const answers = verdicts.map(({ right }) => right.get(measure)).filter((answer) => answer !== undefined)
    if (answers.length === 0) return []
    return [[measure, proportion(answers.filter(Boolean).length, answers.length)]]
  })
  return new Map(shares)
}
