import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { philox, RandomNumbers, type Place } from '../../../src/training/data/randomness.ts'

const place: Place = { purpose: 'noise', seed: 12345678901, stage: 1, step: 77, sample: 3 }

/** Philox-4x32-10 in whole numbers without bounds. */
function exactPhilox(counter: readonly bigint[], key: readonly bigint[]): readonly bigint[] {
  const word = 2n ** 32n
  let [x0, x1, x2, x3] = counter as [bigint, bigint, bigint, bigint]
  let [k0, k1] = key as [bigint, bigint]
  for (let round = 0; round < 10; round++) {
    const [first, second] = [0xd2511f53n * x0, 0xcd9e8d57n * x2]
    ;[x0, x1, x2, x3] = [(second / word) ^ x1 ^ k0, second % word, (first / word) ^ x3 ^ k1, first % word]
    ;[k0, k1] = [(k0 + 0x9e3779b9n) % word, (k1 + 0xbb67ae85n) % word]
  }
  return [x0, x1, x2, x3]
}

describe('Philox-4x32-10', () => {
  test.each([
    [[0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      'd16cfe09 94fdcceb 5001e420 24126ea1',
    ],
  ])("gives Random123's known answer for counter %j", (counter, key, expected) => {
    const out = new Uint32Array(4)
    const [c0, c1, c2, c3] = counter as number[]
    const [k0, k1] = key as number[]
    philox(out, c0!, c1!, c2!, c3!, k0!, k1!)
    expect(Array.from(out, (word) => word.toString(16).padStart(8, '0')).join(' ')).toBe(expected)
  })

  test('is exact for any counter and key', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff })
    const out = new Uint32Array(4)
    fc.assert(
      fc.property(fc.tuple(word, word, word, word, word, word), (words) => {
        philox(out, ...words)
        const exact = words.map(BigInt)
        expect(Array.from(out, BigInt)).toEqual(exactPhilox(exact.slice(0, 4), exact.slice(4)))
      }),
    )
  })
})

test('numbers depend on every part of the place and on nothing else', () => {
  const first = (at: Place): number => new RandomNumbers(at).next()
  const others: readonly Partial<Place>[] = [
    { purpose: 'posterior' },
    { seed: 12345678902 },
    { seed: 12345678901 + 2 ** 32 },
    { stage: 2 },
    { step: 78 },
    { sample: 4 },
  ]
  const firsts = [place, ...others.map((other) => ({ ...place, ...other }))].map(first)
  expect(new Set(firsts).size).toBe(firsts.length)
  expect(first({ ...place })).toBe(firsts[0])
})

describe('normal numbers', () => {
  const many = new Float32Array(2 ** 20)
  new RandomNumbers(place).fillNormal(many)
  const moment = (power: number): number => many.reduce((sum, x) => sum + x ** power, 0) / many.length

  test('have the moments of the normal distribution, each within five standard errors of a million', () => {
    const bounds = [1, 2, 15, 96].map((variance) => 5 * Math.sqrt(variance / many.length))
    expect(Math.abs(moment(1))).toBeLessThan(bounds[0]!)
    expect(Math.abs(moment(2) - 1)).toBeLessThan(bounds[1]!)
    expect(Math.abs(moment(3))).toBeLessThan(bounds[2]!)
    expect(Math.abs(moment(4) - 3)).toBeLessThan(bounds[3]!)
  })

  test('of neighbouring samples, steps and places in a block are not correlated', () => {
    const other = new Float32Array(many.length)
    const bound = 5 / Math.sqrt(many.length)
    for (const at of [{ sample: 4 }, { step: 78 }, { purpose: 'posterior' }] as const) {
      new RandomNumbers({ ...place, ...at }).fillNormal(other)
      expect(Math.abs(many.reduce((sum, x, i) => sum + x * other[i]!, 0) / many.length)).toBeLessThan(bound)
    }
    for (const distance of [1, 2, 3, 4]) {
      const sum = many.subarray(distance).reduce((sum, x, i) => sum + x * many[i]!, 0)
      expect(Math.abs(sum / (many.length - distance))).toBeLessThan(bound)
    }
  })

  test('a shorter draw is the beginning of a longer one', () => {
    for (const length of [1, 2, 3, 5, 17]) {
      const few = new Float32Array(length)
      new RandomNumbers(place).fillNormal(few)
      expect(few).toEqual(many.slice(0, length))
    }
  })
})

test('whole numbers below a bound are spread evenly: chi-squared of 100,000 in 1,000 cells within 5 standard deviations', () => {
  const cells = new Float64Array(1000)
  for (let sample = 0; sample < 100_000; sample++) {
    cells[new RandomNumbers({ ...place, purpose: 'choice', sample }).below(1000)]! += 1
  }
  const chiSquared = cells.reduce((sum, count) => sum + (count - 100) ** 2 / 100, 0)
  expect(Math.abs(chiSquared - 999)).toBeLessThan(5 * Math.sqrt(2 * 999))
})
