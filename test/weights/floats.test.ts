import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bfloat16ToFloat32, float32ToBfloat16, fromFloat32, toFloat32 } from '../../src/weights/floats.ts'

const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i)
const bitsOf = (values: { readonly buffer: ArrayBuffer }) => new Uint16Array(values.buffer)
const isSame = (a: Uint16Array, b: Uint16Array, isNaNPattern: (bits: number) => boolean) =>
  a.every((bits, i) => bits === b[i] || (isNaNPattern(bits) && isNaNPattern(b[i] ?? 0)))

/**
 * The middles between all neighbouring finite positive values of a 16-bit format, rounded: as they are, and one float32 step
 * below and above.
 */
function roundMiddles(
  infinityBits: number,
  widen: (bits: Uint16Array<ArrayBuffer>) => Float32Array,
  narrow: (values: Float32Array<ArrayBuffer>) => Uint16Array,
) {
  const values = widen(patterns.slice(0, infinityBits))
  const middle = Float32Array.from(values.subarray(1), (high, i) => ((values[i] ?? 0) + high) / 2)
  const step = (by: number) =>
    new Float32Array(new Uint32Array(middle.buffer).map((bits) => bits + by).buffer)
  return { exact: narrow(middle), below: narrow(step(-1)), above: narrow(step(1)) }
}

/** What it should give: the even one, the lower, the upper. */
function expectedMiddles(infinityBits: number) {
  const lower = Uint16Array.from({ length: infinityBits - 1 }, (_, i) => i)
  return { exact: lower.map((i) => i + (i % 2)), below: lower, above: lower.map((i) => i + 1) }
}

describe('float16', () => {
  const isNaNPattern = (bits: number) => (bits & 0x7fff) > 0x7c00

  test('all 65,536 values survive the way to float32 and back', () => {
    const wide = toFloat32(new Float16Array(patterns.slice().buffer))
    expect(isSame(bitsOf(fromFloat32('F16', wide)), patterns, isNaNPattern)).toBe(true)
  })

  test('float32 rounds to the nearest, and from every middle to the even one', () => {
    const rounded = roundMiddles(
      0x7c00,
      (bits) => toFloat32(new Float16Array(bits.buffer)),
      (values) => bitsOf(fromFloat32('F16', values)),
    )
    expect(rounded).toEqual(expectedMiddles(0x7c00))
  })

  test('known values', () => {
    const values = new Float32Array([1, -2, 65504, 65519.99, 65520, 2 ** -24, 2 ** -25, 0.1, -0])
    expect([...bitsOf(fromFloat32('F16', values))]).toEqual([
      0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7c00, 0x0001, 0x0000, 0x2e66, 0x8000,
    ])
  })
})

describe('bfloat16', () => {
  const isNaNPattern = (bits: number) => (bits & 0x7fff) > 0x7f80

  test('all 65,536 values survive the way to float32 and back', () => {
    expect(isSame(float32ToBfloat16(bfloat16ToFloat32(patterns)), patterns, isNaNPattern)).toBe(true)
  })

  test('float32 rounds to the nearest, and from every middle to the even one', () => {
    expect(roundMiddles(0x7f80, bfloat16ToFloat32, float32ToBfloat16)).toEqual(expectedMiddles(0x7f80))
  })

  test('a NaN stays one, whichever of its bits are set', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0x7f80_0001, max: 0x7fff_ffff }), fc.boolean(), (magnitude, negative) => {
        const bits = new Uint32Array([negative ? magnitude + 0x8000_0000 : magnitude])
        expect(isNaNPattern(float32ToBfloat16(new Float32Array(bits.buffer))[0] ?? 0)).toBe(true)
      }),
    )
  })

  test('to float16 it rounds once', () => {
    const brain = patterns.filter((bits) => !isNaNPattern(bits))
    const once = Float16Array.from(
      brain,
      (bits) => new Float32Array(new Uint32Array([bits << 16]).buffer)[0] ?? 0,
    )
    expect(Buffer.from(fromFloat32('F16', toFloat32(brain)).buffer).equals(Buffer.from(once.buffer))).toBe(
      true,
    )
  })
})
