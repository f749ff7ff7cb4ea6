import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toPixels } from '../../src/diffusion/pixels.ts'

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
  test('of an image of another size are refused', () => {
    expect(() => toPixels(new Float32Array(11), { width: 2, height: 2 })).toThrow(
      'image: expected 3 x 2 x 2 values, got 11',
    )
  })
})
