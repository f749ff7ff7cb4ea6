import { describe, expect, test } from 'vitest'
import { featureCount, featureDistance } from '../../src/evaluation/features.ts'
import {
  fitGaussian,
  projected,
  squaredFrechetDistance,
  type Gaussian,
} from '../../src/evaluation/frechet.ts'
import { eigenOf, product, rootOf, transposed, type Matrix } from '../../src/evaluation/symmetric.ts'
import { TorchGenerator } from '../../src/diffusion/noise.ts'

const size = 6

const sine = (k: number, i: number, j: number) => Math.sin(k + 7 * i * i + 3 * j * k + i * j)

/** A Aᵀ / D + I / 10 with A of sines. */
function covarianceOf(k: number): Matrix {
  const sines = new Float64Array(size * size).map((_, at) => sine(k, Math.floor(at / size), at % size))
  return product(sines, transposed(sines)).map(
    (value, at) => value / size + (at % (size + 1) === 0 ? 0.1 : 0),
  )
}

const indices = Array.from({ length: size }, (_, at) => at)
const one: Gaussian = {
  count: 9,
  mean: Float64Array.from(indices, (at) => at / 10),
  covariance: covarianceOf(1),
}
const other: Gaussian = { count: 9, mean: Float64Array.from(indices, Math.cos), covariance: covarianceOf(2) }

describe('the distance', () => {
  test('of diagonal Gaussians is that of their means and standard deviations', () => {
    const diagonal = (mean: readonly number[], deviations: readonly number[]): Gaussian => ({
      count: 2,
      mean: Float64Array.from(mean),
      covariance: new Float64Array(9).map((_, at) => (at % 4 === 0 ? deviations[at / 4]! ** 2 : 0)),
    })
    const distance = squaredFrechetDistance(
      diagonal([1, 2, 3], [0.5, 2, 0]),
      diagonal([1, 0, 6], [1.5, 2, 4]),
    )
    expect(distance).toBeCloseTo(2 ** 2 + 3 ** 2 + 1 ** 2 + 0 + 4 ** 2, 10)
  })

  test('is what numpy and scipy say', () => {
    // np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b)) + ((m - n) ** 2).sum()
    expect(squaredFrechetDistance(one, other)).toBeCloseTo(4.913139459501373, 9)
  })

  test('is what the eigenvalues of the plain product of both covariances say', () => {
    const shared = realEigenvalues(product(one.covariance, other.covariance)).map(Math.sqrt)
    const trace = ({ covariance }: Gaussian) => indices.reduce((sum, at) => sum + covariance[at * 7]!, 0)
    const means = indices.reduce((sum, at) => sum + (one.mean[at]! - other.mean[at]!) ** 2, 0)
    const expected = means + trace(one) + trace(other) - 2 * shared.reduce((sum, value) => sum + value, 0)
    expect(squaredFrechetDistance(one, other)).toBeCloseTo(expected, 9)
  })

  test('is the same both ways, and none to itself', () => {
    expect(squaredFrechetDistance(other, one)).toBeCloseTo(squaredFrechetDistance(one, other), 10)
    expect(squaredFrechetDistance(one, one)).toBeCloseTo(0, 10)
  })
})

/** Of a matrix that is not symmetric but has positive eigenvalues: the QR algorithm without shifts. */
function realEigenvalues(matrix: Matrix): readonly number[] {
  let current = matrix
  for (let step = 0; step < 3000; step++) {
    const q = new Float64Array(size * size)
    for (const column of indices) {
      const vector = indices.map((row) => current[row * size + column]!)
      for (let before = 0; before < column; before++) {
        const along = indices.reduce((sum, row) => sum + vector[row]! * q[row * size + before]!, 0)
        for (const row of indices) vector[row]! -= along * q[row * size + before]!
      }
      const norm = Math.hypot(...vector)
      for (const row of indices) q[row * size + column] = vector[row]! / norm
    }
    current = product(product(transposed(q), current), q)
  }
  return indices.map((at) => current[at * (size + 1)]!)
}

test('eigenvalues and vectors make the matrix again, and so does the square of its root', () => {
  const { values, vectors } = eigenOf(one.covariance)
  const again = product(
    vectors.map((value, at) => value * values[at % size]!),
    transposed(vectors),
  )
  const root = rootOf(one.covariance)
  const square = product(root, root)
  for (const [at, value] of one.covariance.entries()) {
    expect(again[at]).toBeCloseTo(value, 12)
    expect(square[at]).toBeCloseTo(value, 12)
  }
  expect(() => eigenOf(Float64Array.of(1, Number.NaN, Number.NaN, 1))).toThrow(
    /^matrix: expected eigenvalues/,
  )
})

test('a fit has the mean and the unbiased covariance', () => {
  const { count, mean, covariance } = fitGaussian(
    [
      [1, 2],
      [3, 2],
      [5, 8],
    ].map((point) => Float64Array.from(point)),
  )
  expect(count).toBe(3)
  expect([...mean]).toEqual([3, 4])
  expect([...covariance]).toEqual([4, 6, 6, 12])
  expect(() => fitGaussian([Float64Array.of(1)])).toThrow('points: expected at least two, got 1')
})

test('the projection keeps squared distances in the mean', () => {
  const generator = new TorchGenerator(3)
  const drawn = Array.from({ length: 20 }, () => {
    const features = new Float32Array(featureCount)
    generator.fillNormal(features)
    return features
  })
  const ratios = drawn.slice(1).map((features) => {
    const [near, far] = [projected(drawn[0]!), projected(features)]
    const squared = near.reduce((sum, value, at) => sum + (value - far[at]!) ** 2, 0)
    return squared / featureDistance(drawn[0]!, features) ** 2
  })
  const mean = ratios.reduce((sum, value) => sum + value, 0) / ratios.length
  expect(mean).toBeGreaterThan(0.9)
  expect(mean).toBeLessThan(1.1)
})
