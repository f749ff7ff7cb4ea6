/** Reads a safetensors fixture whole, as typed arrays: the tests' own reader, which shares nothing with the product's. */
import { readFileSync } from 'node:fs'

/** The dtypes that occur in our fixtures, each with the array that holds it. */
const arrays = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Float16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const

type Dtype = keyof typeof arrays

/** A tensor with the array type that its dtype decides: narrowing `dtype` narrows `data`. */
export type FixtureTensor = {
  [D in Dtype]: {
    readonly dtype: D
    readonly shape: readonly number[]
    readonly data: InstanceType<(typeof arrays)[D]>
  }
}[Dtype]

interface Entry {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

/**
 * @param path relative to test/fixtures, or absolute
 * @returns every tensor by key; the data are copies, so they are aligned and may be written to
 */
export function readFixture(path: string): Map<string, FixtureTensor> {
  const bytes = readFileSync(new URL(path, new URL('fixtures/', import.meta.url)))
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<string, Entry>
  const tensors = new Map<string, FixtureTensor>()
  for (const [key, entry] of Object.entries(header)) {
    if (key === '__metadata__') continue
    const { dtype, shape, data_offsets: offsets } = entry
    const [from, to] = offsets
    if (!(dtype in arrays))
      throw new Error(`${path}: ${key} has dtype ${dtype}, which this reader does not know`)
    const data = new arrays[dtype](new Uint8Array(bytes.subarray(start + from, start + to)).buffer)
    tensors.set(key, { dtype, shape, data } as FixtureTensor)
  }
  return tensors
}

/** @throws when `tensors` has no float32 tensor of that name */
export function float32(tensors: ReadonlyMap<string, FixtureTensor>, key: string): Float32Array<ArrayBuffer> {
  const tensor = tensors.get(key)
  if (tensor?.dtype !== 'F32')
    throw new Error(`${key}: expected F32, found ${tensor?.dtype ?? 'no such tensor'}`)
  return tensor.data
}

/** @returns the largest absolute difference, and that as a share of the expected tensor's largest magnitude */
export function difference(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): { readonly absolute: number; readonly relative: number } {
  if (actual.length !== expected.length) {
    throw new Error(`expected ${expected.length} values, got ${actual.length}`)
  }
  let absolute = 0
  let magnitude = 0
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!)
    // A NaN must fail a comparison, and Math.max alone keeps it.
    absolute = Math.max(absolute, error)
    magnitude = Math.max(magnitude, Math.abs(expected[i]!))
  }
  return { absolute, relative: magnitude === 0 ? absolute : absolute / magnitude }
}
