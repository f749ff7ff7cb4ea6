/** The exponential moving average of the weights, from which pictures come out better than from the weights themselves. */
import { tensorOf, type Tensors } from './tensors.ts'

/** average ← decay · average + (1 − decay) · weights. @throws {RangeError} when a tensor is missing or has another size */
export function updateAverage(average: Tensors, weights: Tensors, decay: number): void {
  for (const [key, mean] of average) {
    const weight = tensorOf(weights, key, mean.length)
    for (let i = 0; i < mean.length; i++) mean[i] = decay * mean[i]! + (1 - decay) * weight[i]!
  }
}
