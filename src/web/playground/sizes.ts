/** The sizes of pictures: those that a model works at, in the order of their shapes, and how far one is enlarged. */
import type { SchemaModel } from '../../sdk/index.ts'

export interface Size {
  readonly width: number
  readonly height: number
}

type Sized = Pick<SchemaModel, 'base_size' | 'buckets' | 'min_side' | 'max_side'>

/** @param text `"WIDTHxHEIGHT"` */
export function readSize(text: string): Size {
  const [width = 0, height = 0] = text.split('x').map(Number)
  return { width, height }
}

export const writeSize = ({ width, height }: Size): string => `${width}x${height}`

/** From the tallest to the widest. */
export function bucketsOf({ buckets }: Sized): Size[] {
  return buckets.map(readSize).sort((a, b) => a.width / a.height - b.width / b.height)
}

/** The model's own square, or what is nearest to one. */
export function squareOf(model: Sized): Size {
  const distance = ({ width, height }: Size) => Math.abs(Math.log(width / height))
  return bucketsOf(model).reduce((best, size) => (distance(size) < distance(best) ? size : best))
}

const familiar = [
  [9, 16],
  [2, 3],
  [3, 4],
  [1, 1],
  [4, 3],
  [3, 2],
  [16, 9],
] as const

/** A few buckets that stand for all: the nearest to the ratios that people ask for, at most a tenth away. */
export function familiarBuckets(model: Sized): Size[] {
  const all = bucketsOf(model)
  if (all.length <= familiar.length + 1) return all
  const chosen = familiar.flatMap(([across, down]) => {
    const distance = ({ width, height }: Size) => Math.abs(Math.log((width * down) / (height * across)))
    const nearest = all.reduce((best, size) => (distance(size) < distance(best) ? size : best))
    return distance(nearest) < 0.1 ? [nearest] : []
  })
  return all.filter((size) => chosen.includes(size))
}

/** By how much a bucket can be enlarged, in powers of two: what `min_side` and `max_side` leave. */
export function scalesOf({ min_side, max_side }: Sized, { width, height }: Size): number[] {
  return [1, 2, 4, 8, 16].filter(
    (scale) => Math.min(width, height) * scale >= min_side && Math.max(width, height) * scale <= max_side,
  )
}

/** Large enough to be looked at: from 512 pixels on a model's pictures are left as they are. */
const comfortableSide = 512

/** @returns of the scales that are possible the one wanted, or what suits the model */
export function scaleFor(model: Sized, bucket: Size, wanted: number | undefined): number {
  const possible = scalesOf(model, bucket)
  if (wanted !== undefined && possible.includes(wanted)) return wanted
  return possible.find((scale) => model.base_size * scale >= comfortableSide) ?? possible.at(-1) ?? 1
}

export const enlarge = ({ width, height }: Size, scale: number): Size => ({
  width: width * scale,
  height: height * scale,
})

/** What people call the shape, such as `3:2`; the exact ratio is that of the pixels. */
export function ratioOf({ width, height }: Size): string {
  const limit = 21
  let best = { across: 1, down: 1, error: Infinity }
  for (let down = 1; down <= limit; down++) {
    for (let across = 1; across <= limit; across++) {
      // Small numbers are worth a little inexactness.
      const error = Math.abs(Math.log((width * down) / (height * across))) + (across + down) / 900
      if (error < best.error - 1e-9) best = { across, down, error }
    }
  }
  return `${best.across}:${best.down}`
}
