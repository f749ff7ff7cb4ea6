/** Multistep sampling of a latent consistency model: jump to x₀, add noise again, jump again. */
import type { NoiseSchedule } from '../noise-schedule.ts'
import { feedUnscaled, linspace, SolverError } from './solver.ts'
import type { Solver } from './solver.ts'

interface LcmSettings {
  readonly originalInferenceSteps: number
  readonly timestepScaling: number
}

/** Standard deviation of the data that the boundary condition assumes. */
const sigmaData = 0.5

/**
 * Algorithm 3 of Luo et al. 2023 (arXiv 2310.04378, Latent Consistency Models) with the boundary condition of Song et
 * al. 2023 (arXiv 2303.01469, equation 5), as diffusers' LCMScheduler computes it:
 *   x₀ = (x − √(1 − ᾱₜ) ε) / √ᾱₜ
 *   f  = c_out x₀ + c_skip x,  c_skip = ¼ / (τ² + ¼),  c_out = τ / √(τ² + ¼),  τ = t · timestepScaling
 *   x′ = √ᾱₛ f + √(1 − ᾱₛ) z,  and just f after the last step
 *
 * @throws {SolverError} when more steps are asked for than the teacher's solver had
 */
export function createLcm(
  { alphasCumprod, trainTimesteps, sigmas }: NoiseSchedule,
  steps: number,
  { originalInferenceSteps, timestepScaling }: LcmSettings,
): Solver {
  if (steps > originalInferenceSteps) {
    throw new SolverError(`steps: lcm takes at most ${originalInferenceSteps} steps, got ${steps}`)
  }
  const stride = Math.floor(trainTimesteps / originalInferenceSteps)
  const timesteps = linspace(0, originalInferenceSteps, steps + 1)
    .slice(0, steps)
    .map((position) => (originalInferenceSteps - Math.floor(position)) * stride - 1)
  const coefficients = timesteps.map((timestep, step) => {
    const alpha = alphasCumprod[timestep]!
    const nextTimestep = timesteps[step + 1]
    const next = nextTimestep === undefined ? 1 : alphasCumprod[nextTimestep]!
    const tau = timestep * timestepScaling
    const skip = sigmaData ** 2 / (tau ** 2 + sigmaData ** 2)
    const out = tau / Math.sqrt(tau ** 2 + sigmaData ** 2)
    return {
      sample: Math.sqrt(next) * (skip + out / Math.sqrt(alpha)),
      noisePrediction: -Math.sqrt(next) * out * Math.sqrt((1 - alpha) / alpha),
      noise: Math.sqrt(1 - next),
    }
  })
  const drawsNoise = (step: number) => step + 1 < steps
  return {
    steps,
    timesteps: Float32Array.from(timesteps),
    sigmas: Float64Array.from(timesteps, (timestep) => sigmas[timestep]!),
    initialNoiseScale: 1,
    createHistory: (length) => ({ denoised: new Float32Array(0), noise: new Float32Array(length) }),
    drawsNoise,
    scaleModelInput: feedUnscaled,
    step(step, latents, noisePrediction, history) {
      const { sample, noisePrediction: predicted, noise } = coefficients[step]!
      const addsNoise = drawsNoise(step)
      for (let i = 0; i < latents.length; i++) {
        const fresh = addsNoise ? noise * history.noise[i]! : 0
        latents[i] = sample * latents[i]! + predicted * noisePrediction[i]! + fresh
      }
    },
  }
}
