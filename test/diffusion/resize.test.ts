import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { resizeAndCrop, toPixels } from '../../src/diffusion/resize.ts'

const constant = (value: number, length: number) => new Float32Array(length).fill(value)
/** Three equal planes. */
const grey = (plane: readonly number[]) => Float32Array.from([...plane, ...plane, ...plane])
const firstPlane = (image: Float32Array) => [...image.subarray(0, image.length / 3)]

describe('resizing and cropping', () => {
  test('to the same size changes nothing', () => {
    const image = constant(0.5, 3 * 4)
    expect(resizeAndCrop(image, { width: 2, height: 2 }, { width: 2, height: 2 })).toBe(image)
  })

  test('doubles bilinearly with pixel centres at halves', () => {
    const image = grey([0, 4, 8, 12])
    const out = resizeAndCrop(image, { width: 2, height: 2 }, { width: 4, height: 4 })
    expect(firstPlane(out)).toEqual([0, 1, 3, 4, 2, 3, 5, 6, 6, 7, 9, 10, 8, 9, 11, 12])
  })

  test('halves by the mean of the two middle pixels, without antialiasing', () => {
    const image = grey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    const out = resizeAndCrop(image, { width: 4, height: 4 }, { width: 2, height: 2 })
    expect(firstPlane(out)).toEqual([2.5, 4.5, 10.5, 12.5])
  })

  test('cuts the middle out of what is too long, the smaller half before', () => {
    // 6 × 2 covers 3 × 2 at ratio 1; one column of three goes before and two after.
    const image = grey([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15])
    const out = resizeAndCrop(image, { width: 6, height: 2 }, { width: 3, height: 2 })
    expect(firstPlane(out)).toEqual([1, 2, 3, 11, 12, 13])
  })

  test('gives the wanted size and keeps a constant, whatever the sizes', () => {
    const side = fc.integer({ min: 1, max: 60 })
    fc.assert(
      fc.property(side, side, side, side, (width, height, newWidth, newHeight) => {
        const to = { width: newWidth, height: newHeight }
        const out = resizeAndCrop(constant(0.75, 3 * width * height), { width, height }, to)
        expect(out).toHaveLength(3 * newWidth * newHeight)
        expect(out.every((value) => Math.abs(value - 0.75) < 1e-6)).toBe(true)
      }),
    )
  })

  test('covers the wanted side where int(side · ratio) falls short of it', () => {
    expect(Math.trunc(49 * (1 / 49))).toBe(0)
    expect(
      firstPlane(
        resizeAndCrop(constant(0.5, 3 * 49 * 49), { width: 49, height: 49 }, { width: 1, height: 1 }),
      ),
    ).toEqual([0.5])
  })

  test('of an image of another size is refused', () => {
    expect(() => resizeAndCrop(constant(0, 11), { width: 2, height: 2 }, { width: 1, height: 1 })).toThrow(
      'image: expected 3 x 2 x 2 values, got 11',
    )
  })
})

describe('pixels', () => {
  test('are interleaved, clamped and rounded with halves to even', () => {
    // x/2 + ½ = k/255 + ½/255 lies between two values: 0.5 → 0, 1.5 → 2 where float32 can hold the half.
    const red = [-1, 1]
    const green = [-2, 2]
    const blue = [0, 0.25]
    expect([...toPixels(Float32Array.from([...red, ...green, ...blue]), { width: 2, height: 1 })]).toEqual([
      0, 0, 128, 255, 255, 159,
    ])
  })

  test('are what float32 arithmetic and rounding half to even give', () => {
    const roundHalfToEven = (x: number) => {
      const floor = Math.floor(x)
      return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x)
    }
    fc.assert(
      fc.property(fc.float({ min: -2, max: 2, noNaN: true }), (x) => {
        const unit = Math.min(1, Math.max(0, Math.fround(Math.fround(x / 2) + 0.5)))
        const expected = roundHalfToEven(Math.fround(unit * 255))
        expect([...toPixels(Float32Array.of(x, x, x), { width: 1, height: 1 })]).toEqual([
          expected,
          expected,
          expected,
        ])
      }),
      { numRuns: 1000 },
    )
  })
})
