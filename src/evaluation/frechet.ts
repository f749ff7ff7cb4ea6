/**
 * How far apart two sets of pictures are as distributions: the squared Fréchet distance of Gaussians fitted to them, as FID is (Heusel et al.
 * 2017, arXiv 1706.08500), in the space of `features.ts` in place of Inception's.
 *
 * A few hundred pictures give no covariance of 3,200 features, so these are projected to 64 first, by a matrix of normal numbers that
 * are always the same. Unlike the principal components of references it looks in all directions alike, and so does not overlook what
 * no reference has; it keeps squared distances in the mean (Johnson and Lindenstrauss 1984).
 *
 * Legend: D dimensions after the projection, F features.
 */
import { TorchGenerator } from '../diffusion/noise.ts'
import { featureCount } from './features.ts'
import { eigenOf, product, rootOf, type Matrix } from './symmetric.ts'

export const dimensions = 64
/** Changes with all that decides what projected features mean; kept beside what was measured with them. */
export const projectionName = 'oklab-32x32-edges-4x4x8-normal-64'
/** With fewer pictures a covariance of 64 dimensions says little. */
export const fewestPictures = 2 * dimensions

export interface Gaussian {
  /** Pictures that it was fitted to. */
  readonly count: number
  readonly mean: Float64Array // (D)
  readonly covariance: Matrix // (D, D)
}

let projection: Float32Array | undefined // (D, F)

/** @param features as `see` gives them (F) */
export function projected(features: Float32Array): Float64Array {
  projection ??= drawProjection()
  const result = new Float64Array(dimensions)
  for (let row = 0; row < dimensions; row++) {
    let sum = 0
    for (let at = 0; at < featureCount; at++) sum += projection[row * featureCount + at]! * features[at]!
    result[row] = sum
  }
  return result
}

function drawProjection(): Float32Array {
  const drawn = new Float32Array(dimensions * featureCount)
  new TorchGenerator(0).fillNormal(drawn)
  return drawn.map((value) => value / Math.sqrt(dimensions))
}

/**
 * Mean and unbiased covariance.
 * @throws {RangeError} with fewer than two points
 */
export function fitGaussian(points: readonly Float64Array[]): Gaussian {
  const count = points.length
  if (count < 2) throw new RangeError(`points: expected at least two, got ${count}`)
  const size = points[0]!.length
  const mean = new Float64Array(size)
  for (const point of points) for (let at = 0; at < size; at++) mean[at]! += point[at]! / count
  const covariance = new Float64Array(size * size)
  for (const point of points)
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++)
        covariance[row * size + column]! +=
          ((point[row]! - mean[row]!) * (point[column]! - mean[column]!)) / (count - 1)
  return { count, mean, covariance }
}

/** |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (√Σ₁ Σ₂ √Σ₁)^½) (Dowson and Landau 1982); never less than 0. */
export function squaredFrechetDistance(one: Gaussian, other: Gaussian): number {
  const root = rootOf(one.covariance)
  const { values } = eigenOf(symmetrised(product(product(root, other.covariance), root)))
  const shared = values.reduce((sum, value) => sum + Math.sqrt(Math.max(value, 0)), 0)
  const apart = one.mean.reduce((sum, value, at) => sum + (value - other.mean[at]!) ** 2, 0)
  return Math.max(apart + traceOf(one.covariance) + traceOf(other.covariance) - 2 * shared, 0)
}

/** Products of symmetric matrices are not quite so after rounding. */
function symmetrised(matrix: Matrix): Matrix {
  const size = Math.sqrt(matrix.length)
  return matrix.map((value, at) => (value + matrix[(at % size) * size + Math.floor(at / size)]!) / 2)
}

function traceOf(matrix: Matrix): number {
  const size = Math.sqrt(matrix.length)
  let sum = 0
  for (let at = 0; at < size; at++) sum += matrix[at * size + at]!
  return sum
}
