/** Reference tensors of one file, and the books: what was read as an input, what was computed, and how far it was off. */
import { basename } from 'node:path'
import { openSafetensors, readFloats, readTensor, type TensorLocation } from '../../weights/safetensors.ts'
import type { TensorSource } from '../../weights/safetensors-writer.ts'
import type { Bound } from './bounds.ts'

export interface Comparison {
  readonly name: string
  /** What the tensor is reported with, when there are too many to be read one by one. */
  readonly group?: string | undefined
  readonly maxAbsolute: number
  /** The largest difference by what the bound says, which mostly is the reference's largest value. */
  readonly maxRelative: number
  readonly bound: string
  /** How much of what the bound allows is taken. */
  readonly strain: number
  readonly isWithin: boolean
}

export type NumberArray = Float32Array | Int32Array | Uint8Array

export class References {
  readonly comparisons: Comparison[] = []
  readonly computed = new Map<string, TensorSource>()
  readonly #file: string
  readonly #references: ReadonlyMap<string, TensorLocation>
  readonly #used = new Set<string>()

  private constructor(file: string, references: ReadonlyMap<string, TensorLocation>) {
    this.#file = file
    this.#references = references
  }

  static async open(file: string): Promise<References> {
    return new References(basename(file), (await openSafetensors(file)).tensors)
  }

  has(name: string): boolean {
    return this.#references.has(name)
  }

  /** What follows the prefix, of all names that begin with it. */
  namesUnder(prefix: string): string[] {
    return [...this.#references.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length))
  }

  shape(name: string): readonly number[] {
    return this.#locate(name).shape
  }

  /** A reference that a computation starts from. */
  async input(name: string): Promise<Float32Array<ArrayBuffer>> {
    const location = this.#locate(name)
    this.#used.add(name)
    return location.dtype === 'I32' ? Float32Array.from(await this.#numbers(location)) : readFloats(location)
  }

  /** The largest magnitude in a reference. */
  async largest(name: string): Promise<number> {
    return largest(await this.#numbers(this.#locate(name)))
  }

  async compare(name: string, computed: NumberArray, bound: Bound, group?: string): Promise<void> {
    const location = this.#locate(name)
    const reference = await this.#numbers(location)
    this.#used.add(name)
    this.computed.set(name, sourceOf(computed, location.shape))
    const difference = measure(computed, reference, bound)
    const { maxAbsolute, maxRelative } = difference
    const strain = bound.strain(difference)
    this.comparisons.push({
      name,
      group,
      maxAbsolute,
      maxRelative,
      bound: bound.text,
      strain,
      isWithin: strain <= 1,
    })
  }

  uncompared(): string[] {
    return [...this.#references.keys()].filter((name) => !this.#used.has(name)).sort()
  }

  #locate(name: string): TensorLocation {
    const location = this.#references.get(name)
    if (!location) throw new Error(`${this.#file}: expected a tensor ${name}, and there is none`)
    return location
  }

  async #numbers(location: TensorLocation): Promise<NumberArray> {
    const data = await readTensor(location)
    if (data instanceof Float32Array || data instanceof Int32Array || data instanceof Uint8Array) return data
    throw new Error(`${this.#file}: expected F32, I32 or U8, got ${location.dtype}`)
  }
}

export interface Difference {
  readonly maxAbsolute: number
  readonly maxRelative: number
  /** Share of the elements. */
  readonly offByMoreThanOne: number
  readonly meanSquare: number
}

function measure(computed: NumberArray, reference: NumberArray, { relativeTo }: Bound): Difference {
  if (computed.length !== reference.length)
    return { maxAbsolute: Infinity, maxRelative: Infinity, offByMoreThanOne: 1, meanSquare: Infinity }
  let maxAbsolute = 0
  let maxShare = 0
  let off = 0
  let squares = 0
  for (let i = 0; i < reference.length; i++) {
    const difference = Math.abs(computed[i]! - reference[i]!)
    const share = difference === 0 ? 0 : difference / Math.abs(reference[i]!)
    // A NaN must not pass for a small difference.
    if (!(difference <= maxAbsolute)) maxAbsolute = Number.isNaN(difference) ? Infinity : difference
    if (!(share <= maxShare)) maxShare = Number.isNaN(share) ? Infinity : share
    if (!(difference <= 1)) off += 1
    squares += difference ** 2
  }
  const scale = typeof relativeTo === 'number' ? relativeTo : largest(reference)
  const byScale = maxAbsolute === 0 ? 0 : maxAbsolute / scale
  return {
    maxAbsolute,
    maxRelative: relativeTo === 'each' ? maxShare : byScale,
    offByMoreThanOne: off / reference.length,
    meanSquare: squares / reference.length,
  }
}

function largest(data: NumberArray): number {
  let magnitude = 0
  for (let i = 0; i < data.length; i++) magnitude = Math.max(magnitude, Math.abs(data[i]!))
  return magnitude
}

function sourceOf(data: NumberArray, shape: readonly number[]): TensorSource {
  if (data instanceof Float32Array) return { dtype: 'F32', shape, data }
  if (data instanceof Int32Array) return { dtype: 'I32', shape, data }
  return { dtype: 'U8', shape, data }
}
