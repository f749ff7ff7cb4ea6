import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Sampler, type SamplerOptions } from '../../../src/training/data/sampler.ts'

/** Groups of pictures that are numbered through, and batches that the rows divide. */
const settings: fc.Arbitrary<SamplerOptions> = fc
  .record({
    sizes: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 6 }),
    rows: fc.integer({ min: 1, max: 5 }),
    microBatches: fc.integer({ min: 1, max: 4 }),
    seed: fc.nat(),
    stage: fc.nat({ max: 5 }),
  })
  .filter(({ sizes }) => sizes.some((size) => size > 0))
  .map(({ sizes, rows, microBatches, ...rest }) => {
    let next = 0
    const groups = sizes.map((size) => Array.from({ length: size }, () => next++))
    return { ...rest, groups, rows, batchSize: rows * microBatches }
  })

const take = (sampler: Sampler, from: number, count: number) =>
  Array.from({ length: count }, (_, i) => {
    const place = from + i
    return sampler.microBatch(
      Math.floor(place / sampler.microBatchesPerStep),
      place % sampler.microBatchesPerStep,
    )
  })

const epochOf = (options: SamplerOptions, epoch: number) => {
  const sampler = new Sampler(options)
  return take(sampler, epoch * sampler.microBatchesPerEpoch, sampler.microBatchesPerEpoch)
}

describe('for any pictures, batches and seeds', () => {
  test('a micro-batch is full, and of one group', () => {
    fc.assert(
      fc.property(settings, fc.nat({ max: 3 }), (options, epoch) => {
        for (const { group, pictures } of epochOf(options, epoch)) {
          expect(pictures).toHaveLength(options.rows)
          for (const picture of pictures) expect(options.groups[group]).toContain(picture)
        }
      }),
    )
  })

  test('an epoch draws every picture, and none of a group more than once more often than another', () => {
    fc.assert(
      fc.property(settings, fc.nat({ max: 3 }), (options, epoch) => {
        const drawn = epochOf(options, epoch).flatMap(({ pictures }) => pictures)
        for (const group of options.groups) {
          const draws = Math.ceil(group.length / options.rows) * options.rows
          for (const picture of group) {
            const times = drawn.filter((other) => other === picture).length
            expect(times).toBeGreaterThanOrEqual(Math.max(1, Math.floor(draws / group.length)))
            expect(times).toBeLessThanOrEqual(Math.ceil(draws / group.length))
          }
        }
      }),
    )
  })

  test('a micro-batch does not depend on what was asked for before', () => {
    fc.assert(
      fc.property(settings, fc.array(fc.nat({ max: 60 }), { maxLength: 20 }), (options, places) => {
        const used = new Sampler(options)
        for (const place of places) {
          expect(take(used, place, 1)).toEqual(take(new Sampler(options), place, 1))
        }
      }),
    )
  })
})

test('with one group, a step has the same pictures in the same order for every size of micro-batch', () => {
  const numbers = Array.from({ length: 48 }, (_, i) => i)
  const options = { seed: 3, stage: 1, groups: [numbers], batchSize: 12 }
  const steps = (rows: number): readonly (readonly number[])[] => {
    const sampler = new Sampler({ ...options, rows })
    return Array.from({ length: 12 }, (_, step) =>
      Array.from(
        { length: sampler.microBatchesPerStep },
        (_, i) => sampler.microBatch(step, i).pictures,
      ).flat(),
    )
  }
  for (const rows of [2, 3, 4, 6, 12]) expect(steps(rows)).toEqual(steps(1))
})

test('epochs, stages and seeds have orders of their own', () => {
  const options = {
    seed: 3,
    stage: 0,
    groups: [Array.from({ length: 40 }, (_, i) => i)],
    batchSize: 4,
    rows: 4,
  }
  const orders = [
    epochOf(options, 0),
    epochOf(options, 1),
    epochOf({ ...options, stage: 1 }, 0),
    epochOf({ ...options, seed: 4 }, 0),
  ]
  expect(new Set(orders.map((order) => JSON.stringify(order))).size).toBe(orders.length)
})

test('every picture is as likely to be first as any other, and small groups come no sooner: within 5 standard deviations', () => {
  const epochs = 4000
  const groups = [Array.from({ length: 32 }, (_, i) => i), [32], [33, 34]]
  const options = { seed: 5, stage: 0, groups, batchSize: 4, rows: 4 }
  const first = new Float64Array(32)
  const places = new Float64Array(3)
  const sampler = new Sampler(options)
  for (let epoch = 0; epoch < epochs; epoch++) {
    const drawn = take(sampler, epoch * 10, 10)
    first[drawn.find(({ group }) => group === 0)!.pictures[0]!]! += 1
    for (const group of [1, 2]) places[group]! += drawn.findIndex((one) => one.group === group)
  }
  const expected = epochs / 32
  for (const count of first) expect(Math.abs(count - expected)).toBeLessThan(5 * Math.sqrt(expected))
  // Evenly over ten places: the mean is 4.5, its standard deviation √(99/12 / epochs).
  for (const group of [1, 2]) {
    expect(Math.abs(places[group]! / epochs - 4.5)).toBeLessThan(5 * Math.sqrt(99 / 12 / epochs))
  }
})

test('what cannot be is refused', () => {
  const options = { seed: 1, stage: 0, groups: [[0, 1]], batchSize: 4, rows: 2 }
  expect(() => new Sampler({ ...options, rows: 3 })).toThrow(
    'rows: expected a divisor of the batch size 4, got 3',
  )
  expect(() => new Sampler({ ...options, rows: 0 })).toThrow('rows: expected a divisor')
  expect(() => new Sampler({ ...options, groups: [[]] })).toThrow('groups: expected pictures, got none')
})
