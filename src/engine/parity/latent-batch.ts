/** Whole batches of equally large latents as patch tokens, and back. B pictures, C channels, h × w latents, N tokens, p patch side. */
import { gridCoordinates, patchify, unpatchify } from '../../diffusion/patches.ts'
import type { BackboneConfig } from '../../models/pixart.ts'
import { float32, type Tensor } from '../session.ts'

export class LatentBatch {
  readonly #config: BackboneConfig
  readonly #shape: readonly number[]

  /** @param shape (B, C, h, w) of the latents */
  constructor(config: BackboneConfig, shape: readonly number[]) {
    this.#config = config
    this.#shape = shape
  }

  get rows(): number {
    return this.#shape[0] ?? 0
  }

  get #size(): { readonly height: number; readonly width: number; readonly patchSize: number } {
    const [, , height = 0, width = 0] = this.#shape
    return { height, width, patchSize: this.#config.patchSize }
  }

  get #tokens(): number {
    const { height, width, patchSize } = this.#size
    return (height * width) / patchSize ** 2
  }

  /** latents (B, C, h, w) → (B, N, C·p·p) */
  tokens(latents: Float32Array): Tensor<'float32'> {
    const layout = { ...this.#size, channels: this.#config.inChannels }
    const tokens = new Float32Array(latents.length)
    for (const part of this.rowsOf(latents.length))
      patchify(latents.subarray(...part), layout, tokens.subarray(...part))
    return float32(tokens, this.rows, this.#tokens, latents.length / this.rows / this.#tokens)
  }

  /** (B, N, 2): where each token lies in the grid that the model was made for. */
  coords(): Tensor<'float32'> {
    const { sampleSize, patchSize, interpolationScale } = this.#config
    const grid = gridCoordinates({ ...this.#size, baseSize: sampleSize / patchSize, interpolationScale })
    const coords = new Float32Array(this.rows * grid.length)
    for (let row = 0; row < this.rows; row++) coords.set(grid, row * grid.length)
    return float32(coords, this.rows, this.#tokens, 2)
  }

  /** The model's output, tokens (B, N, outC·p·p), as pictures (B, outC, h, w). */
  pictures(tokens: Float32Array): Float32Array {
    const layout = { ...this.#size, channels: this.#config.outChannels }
    const pictures = new Float32Array(tokens.length)
    for (const part of this.rowsOf(tokens.length))
      unpatchify(tokens.subarray(...part), layout, pictures.subarray(...part))
    return pictures
  }

  /** Begin and end of each row in so many numbers. */
  rowsOf(length: number): readonly (readonly [begin: number, end: number])[] {
    const size = length / this.rows
    return Array.from({ length: this.rows }, (_, row) => [row * size, (row + 1) * size] as const)
  }
}
