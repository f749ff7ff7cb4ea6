/** How much signal is left at each training timestep: βₜ, ᾱₜ and σₜ, rounded as diffusers rounds them. */
import type { SchedulerConfig } from './scheduler-config.ts'

/** The forward process q(xₜ|x₀) = N(√ᾱₜ x₀, (1 − ᾱₜ) I) of Ho et al. 2020 (arXiv 2006.11239), equation 4. */
export interface NoiseSchedule {
  readonly trainTimesteps: number
  readonly betas: Float32Array // (trainTimesteps)
  /** ᾱₜ, the product of 1 − β up to t. */
  readonly alphasCumprod: Float32Array // (trainTimesteps)
  /** √((1 − ᾱₜ) / ᾱₜ), the noise level after dividing x by √ᾱₜ (Karras et al. 2022, arXiv 2206.00364). */
  readonly sigmas: Float32Array // (trainTimesteps)
}

/** @returns the schedule that a diffusers scheduler of this configuration computes, in float32 on a CPU */
export function createNoiseSchedule(config: SchedulerConfig): NoiseSchedule {
  const { trainTimesteps, betaStart, betaEnd } = config
  const betas =
    config.betaSchedule === 'linear'
      ? linspace(betaStart, betaEnd, trainTimesteps)
      : linspace(Math.sqrt(betaStart), Math.sqrt(betaEnd), trainTimesteps).map((root) => root * root)
  // torch.cumprod multiplies float32 factors in double and rounds what it stores.
  let product = 1
  const alphasCumprod = betas.map((beta) => (product *= Math.fround(1 - beta)))
  const sigmas = alphasCumprod.map((alpha) => Math.sqrt(Math.fround(Math.fround(1 - alpha) / alpha)))
  return { trainTimesteps, betas, alphasCumprod, sigmas }
}

/** Lanes of a float32 vector register of the CPUs that torch computes on (AVX2). */
const lanes = 8

/**
 * torch.linspace in float32: the step is rounded, the first half counts up from the start and the second down from
 * the end, and each vector of 8 counts up from its own first value.
 */
function linspace(start: number, end: number, count: number): Float32Array {
  const first = Math.fround(start)
  const last = Math.fround(end)
  const step = Math.fround(Math.fround(last - first) / (count - 1))
  const at = (index: number) =>
    index < Math.floor(count / 2)
      ? Math.fround(first + Math.fround(step * index))
      : Math.fround(last - Math.fround(step * (count - index - 1)))
  const vectorised = count - (count % lanes)
  return Float32Array.from({ length: count }, (_, index) => {
    if (index >= vectorised) return at(index)
    const lane = index % lanes
    return at(index - lane) + Math.fround(step * lane)
  })
}
