/** DPM-Solver++ (2M): the multistep second-order solver that PixArt-α is published with, plain and on Karras' sigmas. */
import type { NoiseSchedule } from '../noise-schedule.ts'
import { feedUnscaled, linspace, neverDrawsNoise, roundHalfToEven } from './solver.ts'
import type { Solver } from './solver.ts'

/** The noise levels to go through and the timestep that each is told to the model as. */
interface Path {
  readonly timesteps: readonly number[] // (steps)
  readonly sigmas: readonly number[] // (steps), without the final zero
}

/** Timesteps evenly spread over the schedule (diffusers' `timestep_spacing: linspace`). */
export function linspacePath({ trainTimesteps, sigmas }: NoiseSchedule, steps: number): Path {
  const timesteps = linspace(0, trainTimesteps - 1, steps + 1)
    .map(roundHalfToEven)
    .toReversed()
    .slice(0, -1)
  return { timesteps, sigmas: timesteps.map((timestep) => sigmas[timestep]!) }
}

/**
 * Noise levels of Karras et al. 2022 (arXiv 2206.00364), equation 5 with ρ = 7: evenly spread in σ^(1/ρ). The model is
 * told the whole timestep whose log σ is nearest, as diffusers' `_sigma_to_t` rounds it.
 */
export function karrasPath({ sigmas }: NoiseSchedule, steps: number): Path {
  const rho = 7
  const most = sigmas.at(-1)! ** (1 / rho)
  const least = sigmas[0]! ** (1 / rho)
  const levels = linspace(0, 1, steps).map((ramp) => (most + ramp * (least - most)) ** rho)
  const logSigmas = sigmas.map(Math.log)
  const timesteps = levels.map((level) => roundHalfToEven(fractionalIndex(logSigmas, Math.log(level))))
  return { timesteps, sigmas: levels.map(Math.fround) }
}

/** Where between the entries of an ascending table a value lies. */
function fractionalIndex(table: Float32Array, value: number): number {
  const above = table.findIndex((entry) => entry > value)
  const high = Math.min(Math.max(above === -1 ? table.length - 1 : above, 1), table.length - 1)
  const low = high - 1
  const weight = (table[low]! - value) / (table[low]! - table[high]!)
  return low + Math.min(Math.max(weight, 0), 1)
}

/**
 * DPM-Solver++ (2M) of Lu et al. 2022 (arXiv 2211.01095), algorithm 2, data prediction, midpoint form, as diffusers'
 * DPMSolverMultistepScheduler computes it (`dpmsolver++`, order 2, final sigma zero). The first step has no history
 * and the last one goes to σ = 0, where λ is infinite: both are first order (equation 9, k = 1, which is DDIM).
 *
 * With α = 1/√(σ² + 1), λ = −log σ, h = λₜ − λₛ, r = (λₛ − λᵤ)/h:
 *   x₀ = (x − σₛαₛ ε) / αₛ
 *   x′ = (σₜαₜ/σₛαₛ) x − αₜ(e^−h − 1) · (x₀ + (x₀ − x₀ previous) / 2r)
 */
export function createMultistepDpmSolver({ timesteps, sigmas }: Path): Solver {
  const steps = timesteps.length
  const alpha = (sigma: number) => 1 / Math.sqrt(sigma * sigma + 1)
  const lambda = (sigma: number) => -Math.log(sigma)
  const coefficients = sigmas.map((sigma, step) => {
    const next = sigmas[step + 1] ?? 0
    const h = lambda(next) - lambda(sigma)
    const data = -alpha(next) * Math.expm1(-h)
    const before = sigmas[step - 1]
    const isSecondOrder = before !== undefined && step + 1 < steps
    const correction = isSecondOrder ? (data * 0.5 * h) / (lambda(sigma) - lambda(before)) : 0
    return {
      denoisedSample: 1 / alpha(sigma),
      denoisedNoise: -sigma,
      sample: (next * alpha(next)) / (sigma * alpha(sigma)),
      denoised: data + correction,
      previousDenoised: -correction,
    }
  })
  return {
    steps,
    timesteps: Float32Array.from(timesteps),
    sigmas: Float64Array.from(sigmas),
    initialNoiseScale: 1,
    createHistory: (length) => ({ denoised: new Float32Array(length), noise: new Float32Array(0) }),
    drawsNoise: neverDrawsNoise,
    scaleModelInput: feedUnscaled,
    step(step, latents, noisePrediction, history) {
      const { denoisedSample, denoisedNoise, sample, denoised, previousDenoised } = coefficients[step]!
      // A first step must not read the history: a request that runs again starts with the last run's values in it.
      const isFirst = step === 0
      for (let i = 0; i < latents.length; i++) {
        const x = latents[i]!
        const x0 = denoisedSample * x + denoisedNoise * noisePrediction[i]!
        const previous = isFirst ? 0 : history.denoised[i]!
        latents[i] = sample * x + denoised * x0 + previousDenoised * previous
        history.denoised[i] = x0
      }
    },
  }
}
