/**
 * The arrays that one denoising batch is computed from and into. They are filled once for a composition of the batch, and
 * from step to step only what changes is written. One batch after another lies in the same memory.
 *
 * Legend: R rows, N image tokens, P numbers of latents in a token, S numbers of output in a token, T text tokens, W the transformer's
 * width, L its layers.
 */
import type { PredictionLayout } from '../diffusion/guidance.ts'
import type { PixArtConfig } from '../models/pixart.ts'
import type { Denoising } from './denoising.ts'
import { float32, type Tensor } from './session.ts'

/** Memory that is used again by whoever asks under the same name; what was in it before is lost. */
export class Scratch {
  readonly #arrays = new Map<string, Float32Array>()

  take(name: string, length: number): Float32Array {
    let array = this.#arrays.get(name)
    if (array === undefined || array.length < length) {
      this.#arrays.delete(name) // else both would be there at once
      array = new Float32Array(length)
      this.#arrays.set(name, array)
    }
    return array.subarray(0, length)
  }
}

export class RowBatch {
  /** Under the names of the step graph's inputs. */
  readonly inputs: Readonly<Record<string, Tensor<'float32'>>>
  readonly output: Float32Array // (R, N, S)
  readonly predictionLayout: PredictionLayout
  readonly #denoisings: readonly Denoising[]
  readonly #width: number // W
  readonly #tokens: Float32Array
  readonly #embedded: Float32Array
  readonly #modulation: Float32Array
  readonly #context: Float32Array
  readonly #outputs: readonly (readonly [Float32Array, Float32Array?])[]

  /**
   * @param denoisings all with the same number of image tokens and of text tokens
   * @param scratch what the arrays are taken from: the batch before can be used no longer
   */
  constructor(denoisings: readonly Denoising[], config: PixArtConfig, scratch: Scratch) {
    const rows = denoisings.flatMap((denoising) => denoising.rows.map((text) => ({ denoising, text })))
    const [first] = rows
    if (!first) throw new RangeError('a batch has at least one row')
    const width = config.inChannels * config.patchSize ** 2 // P
    const stride = config.outChannels * config.patchSize ** 2 // S
    const W = config.heads * config.headWidth
    const R = rows.length
    const N = first.denoising.latents.length / width
    const T = first.text.mask.length
    const size = (dims: readonly number[]) => dims.reduce((a, b) => a * b)
    const array = (name: string, ...dims: number[]) => float32(scratch.take(name, size(dims)), ...dims)
    const tokens = array('tokens', R, N, width)
    const coords = array('coords', R, N, 2)
    const mask = array('mask', R, T)
    const embedded = array('embedded', R, W)
    const modulation = array('modulation', R, 6 * W)
    const context = array('context', R, 2 * config.layers, T, W)
    for (const [row, { denoising, text }] of rows.entries()) {
      coords.data.set(denoising.coordinates, row * N * 2)
      mask.data.set(text.mask, row * T)
    }
    this.inputs = { tokens, coords, mask, embedded, modulation, context }
    this.output = scratch.take('output', R * N * stride)
    this.predictionLayout = { width, stride }
    this.#denoisings = denoisings
    this.#width = W
    this.#tokens = tokens.data
    this.#embedded = embedded.data
    this.#modulation = modulation.data
    this.#context = context.data
    const outputOf = (row: number) => this.output.subarray(row * N * stride, (row + 1) * N * stride)
    let row = 0
    this.#outputs = denoisings.map(({ rows }) => {
      const own =
        rows.length === 2 ? ([outputOf(row), outputOf(row + 1)] as const) : ([outputOf(row)] as const)
      row += rows.length
      return own
    })
  }

  /** Whether it was made for just these, in this order. */
  holds(denoisings: readonly Denoising[]): boolean {
    return (
      this.#denoisings.length === denoisings.length &&
      this.#denoisings.every((own, i) => own === denoisings[i])
    )
  }

  /** Before the first step. @param context what the cross-attentions make of the row's text, (2·L, T, W) */
  writeContext(row: number, context: Float32Array): void {
    this.#context.set(context, row * context.length)
  }

  /** Writes what the model is fed at each one's step. */
  writeInputs(): void {
    let row = 0
    for (const { solver, step, latents, rows, timing } of this.#denoisings) {
      const length = latents.length
      const fed = this.#tokens.subarray(row * length, (row + 1) * length) // (N, P)
      solver.scaleModelInput(latents, step, fed)
      if (rows.length === 2) this.#tokens.copyWithin((row + 1) * length, row * length, (row + 1) * length)
      if (!timing) throw new Error('a request needs its timing before its first step')
      for (let i = row; i < row + rows.length; i++) {
        copyRow(timing.embedded, step, this.#embedded, i, this.#width)
        copyRow(timing.modulation, step, this.#modulation, i, 6 * this.#width)
      }
      row += rows.length
    }
  }

  /** What one of them was fed at the last step, as a view (N, P): the first of its rows. */
  inputOf(index: number): Float32Array {
    const length = this.#denoisings[index]!.latents.length
    const row = this.#denoisings.slice(0, index).reduce((sum, { rows }) => sum + rows.length, 0)
    return this.#tokens.subarray(row * length, (row + 1) * length)
  }

  /** The rows of the output that belong to one of them, as views: (N, S) each; with guidance the negative prompt's first. */
  outputsOf(index: number): readonly [Float32Array, Float32Array?] {
    return this.#outputs[index]!
  }
}

/** Row `from` of (…, width) → row `to` of another such array. */
function copyRow(source: Float32Array, from: number, target: Float32Array, to: number, width: number): void {
  target.set(source.subarray(from * width, (from + 1) * width), to * width)
}
