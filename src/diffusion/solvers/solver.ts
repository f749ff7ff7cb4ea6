/** What every solver offers to the denoising loop: its timesteps and one pure, elementwise step. */

/** What one request carries from step to step; allocated once, changed in place by `Solver.step`. */
export interface SolverHistory {
  /** The previous step's prediction of x₀; empty for solvers that look at one step only. */
  readonly denoised: Float32Array
  /** Fresh noise for this step, which the caller draws where `drawsNoise` says so; empty for other solvers. */
  readonly noise: Float32Array
}

/**
 * A solver for one number of steps. It holds no state of a request, so requests may share it, and all of its
 * arithmetic is elementwise, so latents may be in any layout as long as every array of a request is in the same.
 */
export interface Solver {
  readonly steps: number
  /** What the model is told at each step; whole numbers except for Euler. */
  readonly timesteps: Float32Array // (steps)
  /** √((1 − ᾱ) / ᾱ) of what the model is fed at each step. */
  readonly sigmas: Float64Array // (steps)
  /** Standard normal noise times this is where the first step starts. */
  readonly initialNoiseScale: number
  readonly createHistory: (length: number) => SolverHistory
  /** Whether `history.noise` must hold fresh standard normal noise when this step is taken. */
  readonly drawsNoise: (step: number) => boolean
  /** Writes what the model is fed at this step into `out`. */
  readonly scaleModelInput: (latents: Float32Array, step: number, out: Float32Array) => void
  /** Moves `latents` one step, in place; the steps of a request are taken in order from 0. */
  readonly step: (
    step: number,
    latents: Float32Array,
    noisePrediction: Float32Array,
    history: SolverHistory,
  ) => void
}

/** A solver cannot be made for these settings. */
export class SolverError extends Error {
  override readonly name = 'SolverError'
}

const nothing = new Float32Array(0)

export const emptyHistory = (): SolverHistory => ({ denoised: nothing, noise: nothing })
export const neverDrawsNoise = () => false
export const feedUnscaled = (latents: Float32Array, _step: number, out: Float32Array) => out.set(latents)

/** numpy.linspace: `count` points from start to end, both included; a single point is the start. */
export function linspace(start: number, end: number, count: number): number[] {
  const step = (end - start) / (count - 1)
  return Array.from({ length: count }, (_, i) =>
    count > 1 && i === count - 1 ? end : i === 0 ? start : i * step + start,
  )
}

/** numpy.round: to the nearest whole number, halves to the even one. */
export function roundHalfToEven(value: number): number {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** numpy.interp on the grid 0, 1, 2 …: the value at a fractional index. */
export function interpolate(values: ArrayLike<number>, index: number): number {
  const below = Math.floor(index)
  const low = values[below]!
  return below === index ? low : low + (values[below + 1]! - low) * (index - below)
}
