import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bucketsFor, nearestBucket, ratioKey, scaledBuckets } from '../../src/diffusion/buckets.ts'
import tables from '../../src/diffusion/buckets.json' with { type: 'json' }
import { readFileSync } from 'node:fs'

const published = [256, 512, 1024] as const

describe.each(published)('the table for %i', (baseSize) => {
  const rows = tables[`${baseSize}`]

  test('holds the published sizes under the published ratio keys', () => {
    expect(bucketsFor(baseSize)).toEqual(rows.map(({ width, height }) => ({ width, height })))
    expect(bucketsFor(baseSize).map(ratioKey)).toEqual(rows.map(({ ratio }) => ratio))
  })

  test('is what the rule for other base sizes gives', () => {
    expect(scaledBuckets(baseSize)).toEqual(bucketsFor(baseSize))
  })
})

test('a generated table holds the square, keeps area and ratios, and lies on the grid', () => {
  for (let baseSize = 16; baseSize <= 4096; baseSize += 16) {
    const buckets = bucketsFor(baseSize)
    const grid = baseSize >= 1024 && baseSize % 32 === 0 ? 32 : 16
    expect(buckets).toContainEqual({ width: baseSize, height: baseSize })
    expect(buckets.every(({ width, height }) => width % grid === 0 && height % grid === 0)).toBe(true)
    expect(buckets.every(({ width, height }) => Math.abs((width * height) / baseSize ** 2 - 1) <= 0.1)).toBe(
      true,
    )
    expect(buckets.every(({ width, height }) => width <= 4 * height && height <= 4 * width)).toBe(true)
    const keys = buckets.map(ratioKey)
    expect(keys).toEqual([...new Set(keys)].toSorted((a, b) => a - b))
  }
})

test.each([768, 1280, 2048])('%i has all 33 shapes', (baseSize) => {
  expect(bucketsFor(baseSize)).toHaveLength(33)
})

test.each([0, -16, 100, 24, Number.NaN])('base size %d is refused', (baseSize) => {
  expect(() => bucketsFor(baseSize)).toThrow(/^base size: expected a multiple of 16 pixels/)
})

describe('the nearest bucket', () => {
  test.each([
    ['tiny-512', 512],
    ['tiny-1024-ms', 1024],
  ])("is diffusers' for every golden run of %s", (folder, baseSize) => {
    const path = new URL(`../fixtures/golden/${folder}/golden.json`, import.meta.url)
    const { runs } = JSON.parse(readFileSync(path, 'utf8')) as { runs: Record<string, number>[] }
    for (const run of runs) {
      const wanted = { width: run['requested_width']!, height: run['requested_height']! }
      expect(nearestBucket(bucketsFor(baseSize), wanted)).toEqual({
        width: run['bucket_width'],
        height: run['bucket_height'],
      })
    }
  })

  test('of a bucket is a bucket with its ratio key', () => {
    for (const baseSize of [...published, 640, 768]) {
      for (const bucket of bucketsFor(baseSize))
        expect(nearestBucket(bucketsFor(baseSize), bucket)).toEqual(bucket)
    }
  })

  test('is the first of those whose keys are equally close', () => {
    // 2.5 and 1.5 are as far from 2 as each other, exactly.
    const wide = { width: 400, height: 600 }
    const tall = { width: 400, height: 1000 }
    expect(nearestBucket([wide, tall], { width: 1, height: 2 })).toBe(wide)
    expect(nearestBucket([tall, wide], { width: 1, height: 2 })).toBe(tall)
  })

  test('has the least distance between key and ratio', () => {
    const side = fc.integer({ min: 64, max: 2048 })
    fc.assert(
      fc.property(side, side, (width, height) => {
        const distances = bucketsFor(512).map((bucket) => Math.abs(ratioKey(bucket) - height / width))
        const nearest = nearestBucket(bucketsFor(512), { width, height })
        expect(Math.abs(ratioKey(nearest) - height / width)).toBe(Math.min(...distances))
      }),
    )
  })

  test('of nothing is refused', () => {
    expect(() => nearestBucket([], { width: 1, height: 1 })).toThrow(RangeError)
  })
})
