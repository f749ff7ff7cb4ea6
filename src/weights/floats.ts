/** Conversions between float32, float16 and bfloat16, rounding to nearest, ties to even (IEEE 754, section 4.3.1). */
import type { FloatDtype, TensorArray } from './dtypes.ts'

/** Exact, infinities and NaN payloads of bfloat16 included. Float32 comes back as it is. */
export function toFloat32(values: TensorArray<FloatDtype>): Float32Array<ArrayBuffer> {
  if (values instanceof Float32Array) return values
  if (values instanceof Float16Array) return new Float32Array(values)
  return bfloat16ToFloat32(values)
}

const narrow: { readonly [D in FloatDtype]: (values: Float32Array<ArrayBuffer>) => TensorArray<D> } = {
  F32: (values) => values,
  F16: (values) => new Float16Array(values),
  BF16: float32ToBfloat16,
}

/** Float32 comes back as it is; BF16 is raw bits. What is too large for F16 becomes an infinity. */
export function fromFloat32<D extends FloatDtype>(
  dtype: D,
  values: Float32Array<ArrayBuffer>,
): TensorArray<D> {
  return narrow[dtype](values)
}

/** @param values raw bfloat16 bits */
export function bfloat16ToFloat32(values: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(values.length)
  for (let i = 0; i < values.length; i++) bits[i] = (values[i] ?? 0) << 16
  return new Float32Array(bits.buffer)
}

/** @returns raw bfloat16 bits */
export function float32ToBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i] ?? 0
    const isNaN = (value & 0x7fff_ffff) > 0x7f80_0000
    // A NaN must not round up into an infinity: keep its upper bits and make it quiet.
    out[i] = isNaN ? (value >>> 16) | 0x0040 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16
  }
  return out
}
