import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { coverScale, enlarge } from '../../src/diffusion/enlarge.ts'

const grey = (plane: readonly number[]) => Uint8Array.from(plane.flatMap((value) => [value, value, value]))
const red = (pixels: Uint8Array) => [...pixels].filter((_, index) => index % 3 === 0)

describe('enlarging', () => {
  test('gives what Pillow’s LANCZOS gives, overshoot, edges and a cut in the middle of a pixel included', () => {
    const picture = grey([0, 48, 170, 110, 124, 212, 118, 98, 152, 24, 226, 246, 84, 252, 238])
    const [from, to] = [
      { width: 5, height: 3 },
      { width: 12, height: 8 },
    ]
    // Pillow 12.3, mode F: resize((12, 8), LANCZOS, box=(0.25, 0, 4.75, 3)), clipped and rounded.
    const expected = [
      [0, 0, 1, 53, 123, 172, 178, 146, 111, 110, 132, 151],
      [8, 10, 22, 57, 113, 157, 168, 146, 114, 103, 110, 118],
      [78, 66, 55, 63, 96, 133, 151, 145, 119, 92, 73, 62],
      [174, 149, 115, 87, 84, 101, 126, 145, 138, 97, 49, 15],
      [241, 221, 188, 142, 98, 81, 103, 151, 177, 147, 91, 48],
      [244, 245, 236, 198, 130, 83, 95, 158, 216, 214, 177, 144],
      [226, 244, 255, 233, 157, 92, 94, 163, 240, 255, 246, 225],
      [215, 244, 255, 255, 173, 97, 94, 166, 255, 255, 255, 255],
    ]
    expect(red(enlarge(picture, from, to))).toEqual(expected.flat())
  })

  test('keeps the channels apart', () => {
    const [width, height] = [7, 5]
    const plane = (seed: number) => Array.from({ length: width * height }, (_, i) => (i * i * seed) % 256)
    const planes = [plane(3), plane(11), plane(29)]
    const mixed = Uint8Array.from(
      { length: 3 * width * height },
      (_, i) => planes[i % 3]![Math.floor(i / 3)]!,
    )
    const to = { width: 16, height: 11 }
    const out = enlarge(mixed, { width, height }, to)
    for (const [channel, own] of planes.entries()) {
      const alone = red(enlarge(grey(own), { width, height }, to))
      expect([...out].filter((_, i) => i % 3 === channel)).toEqual(alone)
    }
  })

  test('at scale 1 is a copy, cut around its centre', () => {
    const picture = grey([0, 1, 2, 3, 10, 11, 12, 13])
    const from = { width: 4, height: 2 }
    expect(red(enlarge(picture, from, from))).toEqual(red(picture))
    expect(red(enlarge(picture, from, { width: 2, height: 2 }))).toEqual([1, 2, 11, 12])
  })

  test('gives the size that was asked for, and keeps one colour, whatever the sizes', () => {
    const side = fc.integer({ min: 1, max: 24 })
    fc.assert(
      fc.property(side, side, side, side, (width, height, more, wider) => {
        const to = { width: width + more, height: height + wider }
        const out = enlarge(new Uint8Array(3 * width * height).fill(77), { width, height }, to)
        expect(out).toHaveLength(3 * to.width * to.height)
        expect(out.every((value) => value === 77)).toBe(true)
      }),
    )
  })

  test('refuses to reduce, and a picture of another size', () => {
    const size = { width: 4, height: 4 }
    expect(() => enlarge(new Uint8Array(48), size, { width: 3, height: 2 })).toThrow(
      'enlarge: expected a size to enlarge to, got 4x4 to 3x2',
    )
    expect(() => enlarge(new Uint8Array(47), size, { width: 8, height: 8 })).toThrow(
      'pixels: expected 4 x 4 x 3 values, got 47',
    )
  })
})

test('a picture is scaled by what its shorter fit needs', () => {
  const square = { width: 128, height: 128 }
  expect(coverScale(square, { width: 1024, height: 512 })).toBe(8)
  expect(coverScale(square, { width: 64, height: 32 })).toBe(0.5)
  expect(coverScale(square, { width: 64, height: 128 })).toBe(1)
})
