/**
 * What a micro-batch is, and what makes one of a kind of stage.
 *
 * Shapes: R rows, N image tokens, P numbers a token, T text tokens, D text width, C latent channels, h × w latents, H × W pixels.
 */
import type { Tensor } from '../host.ts'
import type { RandomNumbers } from './randomness.ts'
import type { StagePicture } from './selection.ts'

/** What of the models decides the shapes of a micro-batch. */
export interface BatchLayout {
  readonly patchSize: number
  readonly latentChannels: number
  /** Pixels along one side of a latent. */
  readonly latentScale: number
  /** The VAE's: latents are trained on multiplied by it. */
  readonly scalingFactor: number
  /** Side, in patches, of the grid that the positions were made for. */
  readonly baseSize: number
  readonly interpolationScale: number
  readonly captionWidth: number
  /** Whether the transformer is told resolution and aspect ratio. */
  readonly microConditioned: boolean
}

export interface MicroBatch {
  readonly rows: number
  /** Ids of the pictures, a row each. */
  readonly items: readonly string[]
  /** Of all its pictures, in pixels. */
  readonly width: number
  readonly height: number
  /**
   * By the names of the graphs' inputs.
   *
   * Of a `vae` stage: image (R, 3, H, W), noise (R, C, h, w).
   * Of others: tokens, clean and noise (R, N, P), coords (R, N, 2), timestep (R); with condition `class` class int32 (R), one beyond
   * the last for none; otherwise mask (R, T) with text (R, T, D), or ids int32 (R, T) where the text encoder is trained; resolution
   * (R, 2) and aspect_ratio (R, 1) where the model is told them. T is the longest text's, a multiple of 8.
   */
  readonly feeds: Readonly<Record<string, Tensor>>
}

/** One row, as it was drawn. */
export interface DrawnRow {
  readonly picture: StagePicture
  readonly caption: string
  /** Whether caption and class are left out. */
  readonly dropped: boolean
  readonly timestep: number
  readonly noise: RandomNumbers
  /** Samples the latents; undefined: their mean. */
  readonly posterior: RandomNumbers | undefined
}

/** What of a row is encoded. */
export type NeededRow = Pick<DrawnRow, 'picture' | 'caption'>

/** What makes micro-batches of a kind of stage. All rows have the same bucket. */
export interface Batches {
  assemble(rows: readonly DrawnRow[]): Promise<MicroBatch>
  /** Begins to read what these will need. */
  ahead(rows: readonly DrawnRow[]): void
  /** Encodes what is lacking; one turn for each. */
  prepare(rows: Iterable<NeededRow>): AsyncGenerator<Progress>
}

export interface Progress {
  readonly done: number
  readonly of: number
}
