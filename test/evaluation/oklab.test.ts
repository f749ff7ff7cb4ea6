import { expect, test } from 'vitest'
import { oklab } from '../../src/evaluation/oklab.ts'

test.each([
  [
    [255, 255, 255],
    [1, 0, 0],
  ],
  [
    [0, 0, 0],
    [0, 0, 0],
  ],
  // From CSS Color 4's sample conversions.
  [
    [255, 0, 0],
    [0.62796, 0.22486, 0.12585],
  ],
  [
    [0, 128, 0],
    [0.51975, -0.1403, 0.10768],
  ],
  [
    [0, 0, 255],
    [0.45201, -0.03246, -0.31153],
  ],
] as const)('%j is %j in OKLab', ([red, green, blue], expected) => {
  for (const [index, value] of oklab(red, green, blue).entries())
    expect(value).toBeCloseTo(expected[index]!, 4)
})
