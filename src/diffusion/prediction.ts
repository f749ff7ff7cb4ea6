/** From what a model predicts to the noise that solvers take. */
import type { PredictionType } from './scheduler-config.ts'
import type { Solver } from './solvers/solver.ts'

/**
 * Makes the noise prediction of a step out of the model's, in place. With v = α ε − β x₀ and x = α x₀ + β ε, where α² + β² = 1,
 * the noise is ε = α v + β x (Salimans & Ho 2022, arXiv 2202.00512, appendix D). Guidance is linear, so it may come before.
 *
 * @param input what the model was fed at this step
 */
export function toNoisePrediction(
  type: PredictionType,
  { sigmas }: Pick<Solver, 'sigmas'>,
  step: number,
  input: Float32Array,
  prediction: Float32Array,
): void {
  if (type === 'epsilon') return
  const sigma = sigmas[step]!
  const alpha = 1 / Math.sqrt(sigma * sigma + 1)
  const beta = sigma * alpha
  for (let i = 0; i < prediction.length; i++) prediction[i] = alpha * prediction[i]! + beta * input[i]!
}
