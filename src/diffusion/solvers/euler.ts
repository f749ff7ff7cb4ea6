/** Euler's method on the probability-flow ODE, in the variance-exploding frame. */
import type { NoiseSchedule } from '../noise-schedule.ts'
import { emptyHistory, interpolate, linspace, neverDrawsNoise } from './solver.ts'
import type { Solver } from './solver.ts'

/**
 * Algorithm 2 of Karras et al. 2022 (arXiv 2206.00364) without churn and without its second-order correction, as
 * diffusers' EulerDiscreteScheduler computes it with `timestep_spacing: linspace`: x′ = x + (σₜ − σₛ) ε, and the model
 * sees x / √(σ² + 1). Timesteps are fractional float32 numbers, their sigmas interpolated. A single step is at
 * timestep 0, as there.
 */
export function createEuler({ trainTimesteps, sigmas }: NoiseSchedule, steps: number): Solver {
  const timesteps = Float32Array.from(linspace(0, trainTimesteps - 1, steps).toReversed())
  const levels = timesteps.map((timestep) => interpolate(sigmas, timestep))
  return {
    steps,
    timesteps,
    sigmas: Float64Array.from(levels),
    initialNoiseScale: levels[0]!,
    createHistory: emptyHistory,
    drawsNoise: neverDrawsNoise,
    scaleModelInput(latents, step, out) {
      const scale = 1 / Math.sqrt(levels[step]! ** 2 + 1)
      for (let i = 0; i < latents.length; i++) out[i] = latents[i]! * scale
    },
    step(step, latents, noisePrediction) {
      const change = (levels[step + 1] ?? 0) - levels[step]!
      for (let i = 0; i < latents.length; i++) latents[i] = latents[i]! + change * noisePrediction[i]!
    },
  }
}
