import { expect, test } from 'vitest'
import { mean, medianByGroup, quantile, statisticsOf } from '../../../bench/serving/statistics.ts'

test('quantiles lie between the two nearest values, as NumPy has them', () => {
  expect(quantile([40, 10, 30, 20], 0.5)).toBe(25)
  expect(quantile([40, 10, 30, 20], 0.95)).toBeCloseTo(38.5, 10)
  expect(quantile([7], 0.99)).toBe(7)
  expect(quantile([1, 2], 0)).toBe(1)
  expect(quantile([1, 2], 1)).toBe(2)
  expect(() => quantile([], 0.5)).toThrow(RangeError)
})

test('statistics are the mean and three quantiles', () => {
  const values = Array.from({ length: 101 }, (_, index) => 100 - index)
  expect(statisticsOf(values)).toEqual({ mean: 50, p50: 50, p95: 95, p99: 99 })
  expect(() => mean([])).toThrow(RangeError)
})

test('each position gets the median of its group', () => {
  const groups = ['a', 'b', 'a', 'a', 'b']
  expect(medianByGroup([1, 10, 3, 900, 20], (position) => groups[position]!)).toEqual([3, 15, 3, 3, 15])
})
