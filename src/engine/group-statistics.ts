/** Mean and variance over the groups of group normalisation (Wu & He 2018, arXiv 1803.08494), of one picture. */

export interface GroupStatistics {
  readonly mean: Float32Array // (G)
  /** 1 / √(variance + ε). */
  readonly inverse: Float32Array // (G)
}

/**
 * Sums in float64 of what is left of each value after the group's first one is taken off, so that a mean far from zero costs no
 * digits of the variance.
 * @param picture (C, H, W), the channels of a group next to each other
 */
export function groupStatistics(picture: Float32Array, groups: number, epsilon: number): GroupStatistics {
  const count = picture.length / groups
  const mean = new Float32Array(groups)
  const inverse = new Float32Array(groups)
  for (let g = 0; g < groups; g++) {
    const group = picture.subarray(g * count, (g + 1) * count)
    const shift = group[0]!
    // Four sums of each kind, since each addition waits for the one before it.
    let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0]
    let [square0, square1, square2, square3] = [0, 0, 0, 0]
    const rest = count % 4
    for (let i = 0; i < rest; i++) {
      const a = group[i]! - shift
      sum0 += a
      square0 += a * a
    }
    for (let i = rest; i < count; i += 4) {
      const a = group[i]! - shift
      const b = group[i + 1]! - shift
      const c = group[i + 2]! - shift
      const d = group[i + 3]! - shift
      sum0 += a
      sum1 += b
      sum2 += c
      sum3 += d
      square0 += a * a
      square1 += b * b
      square2 += c * c
      square3 += d * d
    }
    const shifted = (sum0 + sum1 + sum2 + sum3) / count
    const variance = (square0 + square1 + square2 + square3) / count - shifted * shifted
    mean[g] = shift + shifted
    inverse[g] = 1 / Math.sqrt(Math.max(0, variance) + epsilon)
  }
  return { mean, inverse }
}
