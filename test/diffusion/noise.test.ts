import { describe, expect, test } from 'vitest'
import { MersenneTwister } from '../../src/diffusion/mersenne-twister.ts'
import { randn, TorchGenerator } from '../../src/diffusion/noise.ts'
import { difference, float32, readFixture } from '../safetensors.ts'

describe('equals torch.randn of a CPU generator', () => {
  const golden = readFixture('golden/randn.safetensors')
  test.each([...golden.keys()])('%s', (key) => {
    const [seed, shape] = key.split('.') as [string, string]
    const total = shape.split('x').reduce((product, side) => product * Number(side), 1)
    const expected = float32(golden, key)
    const actual = randn(Number(seed), expected.length, { total })
    expect(difference(actual, expected).absolute).toBeLessThanOrEqual(2e-6)
  })
})

test('MT19937 gives the reference sequence', () => {
  // The C++ standard names the 10,000th number of a default-seeded mt19937 ([rand.predef]).
  const random = new MersenneTwister(5489)
  random.skip(9_999)
  expect(random.next()).toBe(4_123_659_995)
})

test.each([1000, 624, 623, 1, 0])('skipping %i numbers is drawing as many', (count) => {
  const skipped = new MersenneTwister(3)
  const drawn = new MersenneTwister(3)
  skipped.next()
  drawn.next()
  skipped.skip(count)
  for (let i = 0; i < count; i++) drawn.next()
  expect(skipped.next()).toBe(drawn.next())
})

describe('a slice of a draw is that part of it', () => {
  test.each([
    [160, 0, 64],
    [160, 64, 96],
    [163, 0, 163],
    [163, 150, 13],
    [163, 140, 10],
    [7, 2, 3],
    [40, 13, 1],
  ])('of %i values from %i on, %i', (total, offset, length) => {
    const whole = randn(9, total)
    expect(randn(9, length, { offset, total })).toEqual(whole.slice(offset, offset + length))
  })

  test('a picture of a batch does not depend on how many follow it', () => {
    const picture = 4 * 6 * 10
    const batch = randn(77, 5 * picture)
    for (let i = 0; i < 5; i++) {
      expect(randn(77, picture, { offset: i * picture })).toEqual(batch.slice(i * picture, (i + 1) * picture))
    }
  })

  test('outside of the draw is refused', () => {
    expect(() => randn(1, 10, { offset: 10, total: 19 })).toThrow(RangeError)
    expect(() => randn(1, 10, { offset: -1 })).toThrow(RangeError)
  })
})

test('successive draws go on where the last one ended', () => {
  // 32 values are 32 numbers of the generator, so the second draw of 32 is the second half of one of 64.
  const generator = new TorchGenerator(5)
  const first = new Float32Array(32)
  const second = new Float32Array(32)
  generator.fillNormal(first)
  generator.fillNormal(second)
  expect([...first, ...second]).toEqual([...randn(5, 64)])
})

test('small draws keep the second value of a pair for the next draw', () => {
  const generator = new TorchGenerator(5)
  const pieces = [1, 2, 3].map((length) => {
    const piece = new Float32Array(length)
    generator.fillNormal(piece)
    return [...piece]
  })
  expect(pieces.flat()).toEqual([...randn(5, 6)])
})

test('only the low 32 bits of a seed count, as torch seeds MT19937', () => {
  expect(randn(42 + 2 ** 32 * 1000, 64)).toEqual(randn(42, 64))
  expect(randn(2 ** 53 - 1, 64)).toEqual(randn(2 ** 32 - 1, 64))
})

test.each([-1, 2 ** 53, 0.5, Number.NaN])('seed %d is refused', (seed) => {
  expect(() => randn(seed, 4)).toThrow(/^seed: expected a whole number/)
})

test('looks standard normal', () => {
  const values = randn(123, 200_000)
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
  expect(Math.abs(mean)).toBeLessThan(0.01)
  expect(Math.abs(variance - 1)).toBeLessThan(0.02)
})
