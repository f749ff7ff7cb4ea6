/** Tensors by parameter key, all float32: weights, their gradients, moments and averages, in the same order everywhere. */
export type Tensors = ReadonlyMap<string, Float32Array>

export const zerosLike = (tensors: Tensors): Map<string, Float32Array<ArrayBuffer>> =>
  new Map([...tensors].map(([key, { length }]) => [key, new Float32Array(length)]))

/** @throws {RangeError} when there is no such tensor, or it has another number of elements */
export function tensorOf(tensors: Tensors, key: string, length: number): Float32Array {
  const tensor = tensors.get(key)
  if (tensor?.length === length) return tensor
  throw new RangeError(`${key}: expected ${length} elements, got ${tensor?.length ?? 'no such tensor'}`)
}
