/**
 * One picture between its first and last step: latents, solver, and the rows that it brings to a denoising batch.
 *
 * Legend: N image tokens, P numbers of latents in a token (channels · patch · patch), T text tokens, D text width.
 * Latents are kept as tokens (N, P) from first noise to last step, so that a step copies nothing but its input.
 */
import type { Bucket } from '../diffusion/buckets.ts'
import { TorchGenerator } from '../diffusion/noise.ts'
import { patchify, type LatentLayout } from '../diffusion/patches.ts'
import type { Solver, SolverHistory } from '../diffusion/solvers.ts'

/** What one row of the batch is conditioned on. */
export interface TextConditions {
  readonly hidden: Float32Array // (T, D)
  readonly mask: Float32Array // (T): 1 for a token, 0 for padding
}

/** What the transformer makes of each step's timestep, computed once for the request. W is the transformer's width. */
export interface Timing {
  readonly embedded: Float32Array // (steps, W)
  readonly modulation: Float32Array // (steps, 6·W)
}

export interface Denoising {
  readonly bucket: Bucket
  readonly layout: LatentLayout
  readonly coordinates: Float32Array // (N, 2)
  readonly solver: Solver
  readonly history: SolverHistory
  readonly guidanceScale: number
  /** One row, or with guidance two: the negative prompt first, as diffusers orders them. */
  readonly rows: readonly TextConditions[]
  readonly latents: Float32Array // (N, P)
  /** The guided noise prediction of the step at hand. */
  readonly prediction: Float32Array // (N, P)
  readonly promptTruncated: boolean
  /** Steps done. */
  step: number
  /** Set before the first step. */
  timing?: Timing
  /** Set while previews are wanted: what the last step says the finished latents will be. */
  cleanEstimate?: Float32Array // (N, P)
  readonly drawNoise: () => void
}

export interface DenoisingSettings {
  readonly bucket: Bucket
  readonly layout: LatentLayout
  readonly coordinates: Float32Array // (N, 2)
  readonly solver: Solver
  readonly guidanceScale: number
  readonly rows: readonly TextConditions[]
  readonly promptTruncated: boolean
  readonly noise: NoiseSource
}

/** Where the first latents come from: a seed's stream, or latents that are given. */
export type NoiseSource =
  | { readonly kind: 'seed'; readonly seed: number; readonly index: number }
  | { readonly kind: 'latents'; readonly latents: Float32Array } // (C, h, w), standard normal

/** diffusers' rule: at 1 and below the negative prompt plays no part. */
export const isGuided = (guidanceScale: number): boolean => guidanceScale > 1

/**
 * Draws the first noise. Slice `index` of a seed's draw is what one draw of `index + 1` pictures gives the last of them;
 * the noise that LCM adds between steps continues that same stream, picture by picture, as diffusers' generator does.
 */
export function startDenoising(settings: DenoisingSettings): Denoising {
  const { layout, solver, noise } = settings
  const length = layout.channels * layout.height * layout.width
  const history = solver.createHistory(length)
  let first: Float32Array
  let drawNoise = () => {}
  if (noise.kind === 'latents') first = noise.latents
  else {
    const generator = new TorchGenerator(noise.seed)
    const slice = { offset: noise.index * length, total: (noise.index + 1) * length }
    const draw = new Float32Array(length) // (C, h, w)
    generator.fillNormal(draw, slice)
    first = draw
    if (history.noise.length > 0) {
      const fresh = new Float32Array(length)
      drawNoise = () => {
        generator.fillNormal(fresh, slice)
        patchify(fresh, layout, history.noise)
      }
    }
  }
  const latents = new Float32Array(length)
  patchify(first, layout, latents)
  for (let i = 0; i < length; i++) latents[i] = latents[i]! * solver.initialNoiseScale
  return {
    ...settings,
    history,
    latents,
    prediction: new Float32Array(length),
    step: 0,
    drawNoise,
  }
}
