/** Tensors by parameter key, all float32: weights, their gradients, moments and averages, in the same order everywhere. */
import { setImmediate as yieldToEvents } from 'node:timers/promises'

export type Tensors = ReadonlyMap<string, Float32Array>

export const zerosLike = (tensors: Tensors): Map<string, Float32Array<ArrayBuffer>> =>
  new Map([...tensors].map(([key, { length }]) => [key, new Float32Array(length)]))

/** @throws {RangeError} when there is no such tensor, or it has another number of elements */
export function tensorOf(tensors: Tensors, key: string, length: number): Float32Array {
  const tensor = tensors.get(key)
  if (tensor?.length === length) return tensor
  throw new RangeError(`${key}: expected ${length} elements, got ${tensor?.length ?? 'no such tensor'}`)
}

/** A pass over all tensors that stops after every few milliseconds of work, so that something else can be done in between. */
export type Passing<Result = void> = Generator<void, Result, void>

export interface TensorRange {
  readonly key: string
  readonly tensor: Float32Array
  readonly from: number
  /** The first one after it. */
  readonly to: number
}

const rangeLength = 2 ** 20

/** All elements in order, in ranges that an optimiser's pass takes some 10 ms for. */
export function* rangesOf(tensors: Tensors): Generator<TensorRange, void, void> {
  for (const [key, tensor] of tensors) {
    for (let from = 0; from < tensor.length; from += rangeLength)
      yield { key, tensor, from, to: Math.min(from + rangeLength, tensor.length) }
  }
}

/** Goes through without a stop. */
export function atOnce<Result>(passing: Passing<Result>): Result {
  for (;;) {
    const { done, value } = passing.next()
    if (done) return value
  }
}

/** Goes through in the time that whatever else waits for the thread leaves. */
export async function inPieces<Result>(passing: Passing<Result>): Promise<Result> {
  for (;;) {
    const { done, value } = passing.next()
    if (done) return value
    await yieldToEvents()
  }
}
