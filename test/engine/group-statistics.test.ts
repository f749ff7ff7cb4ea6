import { expect, test } from 'vitest'
import { groupStatistics } from '../../src/engine/group-statistics.ts'

/** In float64 and two passes. */
function twoPasses(group: Float32Array): { mean: number; variance: number } {
  const mean = group.reduce((sum, x) => sum + x, 0) / group.length
  return { mean, variance: group.reduce((sum, x) => sum + (x - mean) ** 2, 0) / group.length }
}

test.each([
  { values: 'around zero', offset: 0, spread: 1 },
  { values: 'far from zero', offset: 5000, spread: 0.01 },
  { values: 'that are tiny', offset: 1e-4, spread: 1e-4 },
  { values: 'that are all the same', offset: 3, spread: 0 },
])('mean and deviation of groups of values $values', ({ offset, spread }) => {
  const [groups, epsilon] = [3, 1e-6]
  for (const count of [1, 2, 3, 4, 5, 1001]) {
    const picture = Float32Array.from(
      { length: groups * count },
      (_, i) => offset + Math.floor(i / count) + spread * Math.sin(i * i),
    )
    const { mean, inverse } = groupStatistics(picture, groups, epsilon)
    for (let g = 0; g < groups; g++) {
      const expected = twoPasses(picture.slice(g * count, (g + 1) * count))
      expect(mean[g]).toBe(Math.fround(expected.mean))
      expect(inverse[g]! * Math.sqrt(expected.variance + epsilon)).toBeCloseTo(1, 6)
    }
  }
})
