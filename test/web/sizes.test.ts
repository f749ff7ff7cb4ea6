/** What sizes the playground offers of a model's. */
import { describe, expect, test } from 'vitest'
import {
  bucketsOf,
  familiarBuckets,
  ratioOf,
  readSize,
  scaleFor,
  scalesOf,
  squareOf,
  writeSize,
} from '../../src/web/playground/sizes.ts'

const emoji = {
  base_size: 64,
  buckets: ['128x32', '80x48', '64x64', '48x80', '32x128'],
  min_side: 64,
  max_side: 2048,
}
const large = {
  base_size: 512,
  buckets: [
    '1024x256',
    '736x352',
    '704x384',
    '672x384',
    '640x384',
    '608x416',
    '576x448',
    '512x512',
    '448x576',
    '416x608',
    '384x672',
    '256x1024',
  ],
  min_side: 64,
  max_side: 2048,
}

test('buckets go from the tallest to the widest, and the square is among them', () => {
  expect(bucketsOf(emoji).map(writeSize)).toEqual(['32x128', '48x80', '64x64', '80x48', '128x32'])
  expect(squareOf(emoji)).toEqual({ width: 64, height: 64 })
})

test('of many buckets those stand in front that people ask for; of few all', () => {
  expect(familiarBuckets(emoji)).toHaveLength(5)
  const shown = familiarBuckets(large).map(writeSize)
  expect(shown).toContain('512x512')
  expect(shown.length).toBeLessThanOrEqual(7)
  expect(shown.every((size) => large.buckets.includes(size))).toBe(true)
})

describe('a picture can be enlarged', () => {
  test('only to what the service takes', () => {
    for (const model of [emoji, large]) {
      for (const bucket of bucketsOf(model)) {
        const scales = scalesOf(model, bucket)
        expect(scales.length).toBeGreaterThan(0)
        for (const scale of scales) {
          expect(Math.min(bucket.width, bucket.height) * scale).toBeGreaterThanOrEqual(model.min_side)
          expect(Math.max(bucket.width, bucket.height) * scale).toBeLessThanOrEqual(model.max_side)
        }
      }
    }
    expect(scalesOf(emoji, { width: 128, height: 32 })).toEqual([2, 4, 8, 16])
  })

  test('as far as was asked for, else until it is comfortable to look at', () => {
    expect(scaleFor(emoji, { width: 64, height: 64 }, undefined)).toBe(8)
    expect(scaleFor(large, { width: 512, height: 512 }, undefined)).toBe(1)
    expect(scaleFor(emoji, { width: 64, height: 64 }, 2)).toBe(2)
    expect(scaleFor(emoji, { width: 128, height: 32 }, 1)).toBe(8)
  })
})

test.each([
  ['64x64', '1:1'],
  ['80x48', '5:3'],
  ['1536x1024', '3:2'],
  ['576x1024', '9:16'],
  ['128x32', '4:1'],
])('%s is %s', (size, ratio) => {
  expect(ratioOf(readSize(size))).toBe(ratio)
})
