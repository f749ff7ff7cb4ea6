/**
 * The forward process and its posterior as training sees them: tables over the timesteps, in double precision until they are
 * rounded once, as in the IDDPM code that PixArt-α was trained with (where serving follows diffusers, in single precision).
 */
import type { PredictionType, SchedulerConfig } from '../diffusion/scheduler-config.ts'

/** Ho et al. 2020 (arXiv 2006.11239), equations 4 to 7; Nichol & Dhariwal 2021 (arXiv 2102.09672), section 3.1. */
export interface DiffusionProcess {
  readonly predictionType: PredictionType
  readonly timesteps: number
  /** √ᾱₜ and √(1 − ᾱₜ): xₜ = √ᾱₜ x₀ + √(1 − ᾱₜ) ε. */
  readonly signal: Float64Array // (timesteps)
  readonly noise: Float64Array // (timesteps)
  /** x₀ = cleanOfNoised · xₜ − cleanOfNoise · ε */
  readonly cleanOfNoised: Float64Array // (timesteps)
  readonly cleanOfNoise: Float64Array // (timesteps)
  /** The mean of q(xₜ₋₁|xₜ, x₀) is meanOfClean · x₀ + meanOfNoised · xₜ. */
  readonly meanOfClean: Float64Array // (timesteps)
  readonly meanOfNoised: Float64Array // (timesteps)
  /** ln β̃ₜ, the least that a learned variance can be; that of t = 0, which is −∞, is that of t = 1. */
  readonly leastLogVariance: Float64Array // (timesteps)
  /** ln βₜ, the most. */
  readonly mostLogVariance: Float64Array // (timesteps)
  /** ᾱₜ / (1 − ᾱₜ) */
  readonly signalToNoise: Float64Array // (timesteps)
}

type ProcessSettings = Pick<
  SchedulerConfig,
  'predictionType' | 'trainTimesteps' | 'betaSchedule' | 'betaStart' | 'betaEnd'
>

export function diffusionProcess({
  predictionType,
  trainTimesteps,
  betaSchedule,
  betaStart,
  betaEnd,
}: ProcessSettings): DiffusionProcess {
  const between = (from: number, to: number, t: number): number =>
    from + ((to - from) * t) / (trainTimesteps - 1)
  const beta = Float64Array.from({ length: trainTimesteps }, (_, t) =>
    betaSchedule === 'linear'
      ? between(betaStart, betaEnd, t)
      : between(Math.sqrt(betaStart), Math.sqrt(betaEnd), t) ** 2,
  )
  let product = 1
  const cumulative = beta.map((rate) => (product *= 1 - rate)) // ᾱ
  const before = cumulative.map((_, t) => cumulative[t - 1] ?? 1) // ᾱ of t − 1
  const table = (f: (beta: number, cumulative: number, before: number) => number): Float64Array =>
    beta.map((rate, t) => f(rate, cumulative[t] ?? 1, before[t] ?? 1))
  const posteriorVariance = table((rate, now, earlier) => (rate * (1 - earlier)) / (1 - now)) // β̃
  return {
    predictionType,
    timesteps: trainTimesteps,
    signal: cumulative.map(Math.sqrt),
    noise: cumulative.map((now) => Math.sqrt(1 - now)),
    cleanOfNoised: cumulative.map((now) => Math.sqrt(1 / now)),
    cleanOfNoise: cumulative.map((now) => Math.sqrt(1 / now - 1)),
    meanOfClean: table((rate, now, earlier) => (rate * Math.sqrt(earlier)) / (1 - now)),
    meanOfNoised: table((rate, now, earlier) => ((1 - earlier) * Math.sqrt(1 - rate)) / (1 - now)),
    leastLogVariance: posteriorVariance.map((variance, t) =>
      Math.log(posteriorVariance[Math.max(t, 1)] ?? variance),
    ),
    mostLogVariance: beta.map(Math.log),
    signalToNoise: cumulative.map((now) => now / (1 - now)),
  }
}

/** Writes xₜ into `noised`: √ᾱₜ x₀ + √(1 − ᾱₜ) ε, in single precision. */
export function addNoise(
  { signal, noise: amount }: DiffusionProcess,
  {
    clean,
    noise,
    timestep,
  }: { readonly clean: Float32Array; readonly noise: Float32Array; readonly timestep: number },
  noised: Float32Array,
): void {
  const [kept, added] = [Math.fround(signal[timestep]!), Math.fround(amount[timestep]!)]
  for (let i = 0; i < noised.length; i++)
    noised[i] = Math.fround(kept * clean[i]!) + Math.fround(added * noise[i]!)
}
