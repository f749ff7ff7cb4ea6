/** What a step says the finished latents will be: the picture that a preview shows. */
import type { NoiseSchedule } from './noise-schedule.ts'
import { interpolate } from './solvers/solver.ts'

/**
 * x₀ = (x − √(1 − ᾱₜ) ε) / √ᾱₜ, which inverts the forward process of Ho et al. 2020 (arXiv 2006.11239, equation 4).
 * The layouts must be the same.
 *
 * @param input what the model was fed, scaled as it was
 * @param noisePrediction the guided one
 * @param timestep what the model was told; may be fractional
 * @param out takes the estimate
 */
export function estimateClean(
  { alphasCumprod }: NoiseSchedule,
  timestep: number,
  input: Float32Array,
  noisePrediction: Float32Array,
  out: Float32Array,
): void {
  const alpha = interpolate(alphasCumprod, timestep)
  const signal = 1 / Math.sqrt(alpha)
  const noise = Math.sqrt(1 - alpha) * signal
  for (let i = 0; i < out.length; i++) out[i] = signal * input[i]! - noise * noisePrediction[i]!
}

/** Latents at half the size, each value the mean of four; an odd last row or column is left out. */
export function halveLatents(
  latents: Float32Array,
  { channels, height, width }: { readonly channels: number; readonly height: number; readonly width: number },
): { latents: Float32Array; height: number; width: number } {
  const [rows, columns] = [Math.floor(height / 2), Math.floor(width / 2)]
  const out = new Float32Array(channels * rows * columns)
  let at = 0
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < rows; y++) {
      const upper = (channel * height + 2 * y) * width
      for (let x = 0; x < columns; x++) {
        const i = upper + 2 * x
        out[at++] = (latents[i]! + latents[i + 1]! + latents[i + width]! + latents[i + width + 1]!) / 4
      }
    }
  }
  return { latents: out, height: rows, width: columns }
}
