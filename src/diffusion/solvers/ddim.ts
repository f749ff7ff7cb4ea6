/** DDIM: the deterministic first-order solver. */
import type { NoiseSchedule } from '../noise-schedule.ts'
import { emptyHistory, feedUnscaled, neverDrawsNoise, SolverError } from './solver.ts'
import type { Solver } from './solver.ts'

/**
 * DDIM of Song et al. 2020 (arXiv 2010.02502), equation 12 with σ = 0, as diffusers' DDIMScheduler computes it with
 * η = 0, no clipping and `timestep_spacing: leading`:
 *   x₀ = (x − √(1 − ᾱₜ) ε) / √ᾱₜ
 *   x′ = √ᾱₛ x₀ + √(1 − ᾱₛ) ε
 *
 * @throws {SolverError} when a timestep would fall outside the schedule
 */
export function createDdim(
  { alphasCumprod, trainTimesteps, sigmas }: NoiseSchedule,
  steps: number,
  { setAlphaToOne, stepsOffset }: { readonly setAlphaToOne: boolean; readonly stepsOffset: number },
): Solver {
  const stride = Math.floor(trainTimesteps / steps)
  const timesteps = Array.from({ length: steps }, (_, i) => (steps - 1 - i) * stride + stepsOffset)
  if (stride < 1 || timesteps[0]! >= trainTimesteps) {
    throw new SolverError(
      `steps: ddim with offset ${stepsOffset} cannot take ${steps} of ${trainTimesteps} timesteps`,
    )
  }
  const coefficients = timesteps.map((timestep) => {
    const alpha = alphasCumprod[timestep]!
    const next = alphasCumprod[timestep - stride] ?? (setAlphaToOne ? 1 : alphasCumprod[0]!)
    const sample = Math.sqrt(next / alpha)
    return { sample, noise: Math.sqrt(1 - next) - sample * Math.sqrt(1 - alpha) }
  })
  return {
    steps,
    timesteps: Float32Array.from(timesteps),
    sigmas: Float64Array.from(timesteps, (timestep) => sigmas[timestep]!),
    initialNoiseScale: 1,
    createHistory: emptyHistory,
    drawsNoise: neverDrawsNoise,
    scaleModelInput: feedUnscaled,
    step(step, latents, noisePrediction) {
      const { sample, noise } = coefficients[step]!
      for (let i = 0; i < latents.length; i++) latents[i] = sample * latents[i]! + noise * noisePrediction[i]!
    },
  }
}
