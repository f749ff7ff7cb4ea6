import { expect, test } from 'vitest'
import { proportion } from '../../src/evaluation/proportion.ts'

// The examples of Newcombe 1998 (Statistics in Medicine 17), table I, method 3.
test.each([
  [81, 263, 0.2553, 0.3662],
  [15, 148, 0.0624, 0.1605],
  [0, 20, 0, 0.1611],
  [1, 29, 0.0061, 0.1718],
])('%i of %i lies between %f and %f', (hits, of, low, high) => {
  const found = proportion(hits, of)
  expect(found.share).toBe(hits / of)
  expect(found.low).toBeCloseTo(low, 4)
  expect(found.high).toBeCloseTo(high, 4)
})

test('what always hits ends at 1', () => {
  const { share, low, high } = proportion(5, 5)
  expect([share, high]).toEqual([1, 1])
  expect(low).toBeCloseTo(0.5655, 4)
})
