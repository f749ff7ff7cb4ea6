/** The exponential moving average of the weights, from which pictures come out better than from the weights themselves. */
import { atOnce, rangesOf, tensorOf, type Passing, type Tensors } from './tensors.ts'

/** average ← decay · average + (1 − decay) · weights. @throws {RangeError} when a tensor is missing or has another size */
export function updateAverage(average: Tensors, weights: Tensors, decay: number): void {
  atOnce(averagePass(average, weights, decay))
}

/** The same with stops. */
export function* averagePass(average: Tensors, weights: Tensors, decay: number): Passing {
  for (const { key, tensor: mean, from, to } of rangesOf(average)) {
    const weight = tensorOf(weights, key, mean.length)
    for (let i = from; i < to; i++) mean[i] = decay * mean[i]! + (1 - decay) * weight[i]!
    yield
  }
}

/**
 * The decay after a number of updates, this one included: less at first, so that the average of a short training is not its first
 * weights (TensorFlow's ExponentialMovingAverage with `num_updates`, which diffusers' EMAModel has from there).
 */
export const warmedUpDecay = (decay: number, updates: number): number =>
  Math.min(decay, (1 + updates) / (10 + updates))
