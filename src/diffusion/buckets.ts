/** The sizes that a model was trained on, and which of them a wanted size is moved to. */
import tables from './buckets.json' with { type: 'json' }

/** A size in pixels at which a model denoises. */
export interface Bucket {
  readonly width: number
  readonly height: number
}

/** Sides are whole numbers of patches of the latents: 2 × 8 pixels, and twice that where a patch is small enough. */
const gridOf = (baseSize: number) => (baseSize >= 1024 ? 32 : 16)
const largestRatio = 4
const areaTolerance = 0.1

const published = new Map<number, readonly Bucket[]>(
  Object.entries(tables).map(([baseSize, rows]) => [
    Number(baseSize),
    rows.map(({ width, height }) => ({ width, height })),
  ]),
)

/**
 * The published tables for 256, 512 and 1024 (diffusers' ASPECT_RATIO_*_BIN, 33 buckets each). Those three are one
 * table at three scales, so another base size gets the same table scaled and rounded to its grid, without what the
 * rounding moved out of the ratios 1/4 … 4 or more than 10 % off the square bucket's area (published ones are up to
 * 10 % smaller), and without doublets. The rule gives all 99 published buckets, and no others at those sizes.
 *
 * @param baseSize side of the square bucket in pixels, a multiple of 16
 * @returns ascending by height / width
 * @throws {RangeError} for another base size
 */
export function bucketsFor(baseSize: number): readonly Bucket[] {
  return published.get(baseSize) ?? scaledBuckets(baseSize)
}

/** The rule itself, for any base size; see `bucketsFor`. */
export function scaledBuckets(baseSize: number): readonly Bucket[] {
  if (!Number.isSafeInteger(baseSize) || baseSize < 16 || baseSize % 16 !== 0) {
    throw new RangeError(`base size: expected a multiple of 16 pixels, got ${baseSize}`)
  }
  const grid = baseSize % gridOf(baseSize) === 0 ? gridOf(baseSize) : 16
  const scaled = (side: number) => Math.max(grid, Math.round((side * baseSize) / 1024 / grid) * grid)
  const byRatio = new Map<number, Bucket>()
  for (const { width, height } of tables['1024']) {
    const bucket = { width: scaled(width), height: scaled(height) }
    const ratio = bucket.height / bucket.width
    const area = (bucket.width * bucket.height) / baseSize ** 2
    if (ratio < 1 / largestRatio || ratio > largestRatio || Math.abs(area - 1) > areaTolerance) continue
    if (!byRatio.has(ratioKey(bucket))) byRatio.set(ratioKey(bucket), bucket)
  }
  return [...byRatio].sort(([a], [b]) => a - b).map(([, bucket]) => bucket)
}

/** height / width to two decimals: the key under which diffusers' tables hold a bucket. */
export const ratioKey = ({ width, height }: Bucket): number => Number((height / width).toFixed(2))

/**
 * The bucket whose ratio key is closest to height / width, the first of several (diffusers' classify_height_width_bin).
 *
 * @throws {RangeError} when there are no buckets
 */
export function nearestBucket(buckets: readonly Bucket[], { width, height }: Bucket): Bucket {
  const ratio = height / width
  let nearest: Bucket | undefined
  let least = Infinity
  for (const bucket of buckets) {
    const distance = Math.abs(ratioKey(bucket) - ratio)
    if (distance < least) {
      least = distance
      nearest = bucket
    }
  }
  if (nearest === undefined) throw new RangeError('buckets: expected at least one, got none')
  return nearest
}
