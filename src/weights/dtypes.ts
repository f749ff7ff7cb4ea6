/**
 * The element types that this project reads and writes, as safetensors names them: one table of what each is.
 * Files are little-endian, and so is every machine that ONNX Runtime for Node runs on: bytes become typed arrays as they are.
 */

interface ArrayOf<B extends ArrayBufferLike> {
  readonly I64: BigInt64Array<B>
  readonly F32: Float32Array<B>
  readonly I32: Int32Array<B>
  /** Raw bits: the upper half of a float32. `toFloat32` converts. */
  readonly BF16: Uint16Array<B>
  readonly F16: Float16Array<B>
  readonly U8: Uint8Array<B>
}

export type Dtype = keyof ArrayOf<ArrayBuffer>
export type FloatDtype = 'F32' | 'F16' | 'BF16'
export type TensorArray<D extends Dtype = Dtype, B extends ArrayBufferLike = ArrayBuffer> = ArrayOf<B>[D]

/** In the order in which the reference serialiser lays tensors out: its enumeration of dtypes, backwards. */
export const dtypes = ['I64', 'F32', 'I32', 'BF16', 'F16', 'U8'] as const satisfies readonly Dtype[]

export const bytesPerElement: Readonly<Record<Dtype, 1 | 2 | 4 | 8>> = {
  I64: 8,
  F32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  U8: 1,
}

const arrays: { readonly [D in Dtype]: new (buffer: ArrayBuffer) => TensorArray<D> } = {
  I64: BigInt64Array,
  F32: Float32Array,
  I32: Int32Array,
  BF16: Uint16Array,
  F16: Float16Array,
  U8: Uint8Array,
}

export function isDtype(name: unknown): name is Dtype {
  return dtypes.some((dtype) => dtype === name)
}

export function isFloat(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
}

/** The bytes of a tensor as its typed array; no copy. */
export function arrayOf<D extends Dtype>(dtype: D, bytes: ArrayBuffer): TensorArray<D> {
  return new arrays[dtype](bytes)
}

/** Elements of a shape, or undefined where the number passes 2^53 − 1. The empty shape is a scalar. */
export function elementsOf(shape: readonly number[]): number | undefined {
  let elements = 1
  for (const side of shape) {
    elements *= side
    // Rounding is monotone: a product that is too large can never round back into the safe range.
    if (!Number.isSafeInteger(elements)) return undefined
  }
  return elements
}

/** Bytes of a tensor, or undefined where the number passes 2^53 − 1. */
export function sizeBytesOf(dtype: Dtype, shape: readonly number[]): number | undefined {
  const elements = elementsOf(shape)
  const sizeBytes = elements === undefined ? undefined : elements * bytesPerElement[dtype]
  return Number.isSafeInteger(sizeBytes) ? sizeBytes : undefined
}
