/** Random weights as a stream of bytes, faster than a disk takes them. */
import { createHash } from 'node:crypto'
import { arrayOf, bytesPerElement, type FloatDtype } from '../weights/dtypes.ts'
import { fromFloat32 } from '../weights/floats.ts'

export interface Distribution {
  readonly mean: number
  readonly deviation: number
}

const chunkLength = 2 ** 20

/**
 * `length` uniform random numbers, at most 2³², in the bytes of `dtype`, 2²⁰ numbers at a time. They depend on the name and the
 * distribution alone. The number at index i is a hash of i, one to one, under two keys that the name decides: no number comes
 * twice before rounding, so that no row or column of a matrix is another one over again. The array of a chunk is used again for
 * the next.
 */
export async function* syntheticValues(
  name: string,
  dtype: FloatDtype,
  length: number,
  { mean, deviation }: Distribution,
): AsyncGenerator<Uint8Array> {
  const digest = createHash('sha256').update(name).digest()
  const [first, second] = [digest.readInt32LE(0), digest.readInt32LE(4)]
  const scale = (deviation * Math.sqrt(12)) / 2 ** 32
  const chunk = new Float32Array(Math.min(length, chunkLength))
  const half = dtype === 'F16' ? arrayOf('F16', new ArrayBuffer(chunk.length * bytesPerElement.F16)) : undefined
  for (let done = 0; done < length; done += chunk.length) {
    const count = Math.min(chunk.length, length - done)
    for (let i = 0; i < count; i++) chunk[i] = mean + scale * scramble((done + i + first) | 0, second)
    half?.set(chunk)
    const converted = half ?? fromFloat32(dtype, chunk)
    yield new Uint8Array(converted.buffer, 0, count * bytesPerElement[dtype])
  }
}

/** Multiply, xor and shift as in MurmurHash3's finaliser: every 32-bit integer to another one. */
function scramble(index: number, key: number): number {
  let bits = Math.imul(index ^ (index >>> 16), 0x21f0aaad)
  bits = Math.imul(bits ^ (bits >>> 15) ^ key, 0x735a2d97)
  return bits ^ (bits >>> 15)
}
