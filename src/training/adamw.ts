/** AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2), as PyTorch computes it; float32 state, double in between. */
import { atOnce, rangesOf, tensorOf, zerosLike, type Passing, type Tensors } from './tensors.ts'

export interface AdamWOptions {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  /** Of each parameter, by key, so that groups of them can decay differently; the decay is decoupled from the moments. */
  readonly weightDecay: (key: string) => number
}

/** What PixArt-α was trained with. */
export const defaultAdamW: AdamWOptions = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-10,
  weightDecay: () => 0.03,
}

/** All that a later step depends on, besides weights and gradients. */
export interface AdamWState {
  /** Steps taken. */
  steps: number
  readonly first: Tensors
  readonly second: Tensors
}

export const startAdamW = (weights: Tensors): AdamWState => ({
  steps: 0,
  first: zerosLike(weights),
  second: zerosLike(weights),
})

export interface AdamWStep {
  readonly gradients: Tensors
  /** Multiplies the gradients: what clipping or a mean over micro-batches asks for. */
  readonly scale: number
  readonly learningRate: number
  /** Multiplies it for each parameter, by key. @default 1 */
  readonly share?: ((key: string) => number) | undefined
}

/**
 * Takes a step: writes the weights and the state.
 * @throws {RangeError} when a gradient is missing or has another size, before that weight is written
 */
export function stepAdamW(weights: Tensors, state: AdamWState, step: AdamWStep, options: AdamWOptions): void {
  atOnce(adamWPass(weights, state, step, options))
}

/** The same with stops, between which some weights have taken the step and others not. */
export function* adamWPass(
  weights: Tensors,
  state: AdamWState,
  { gradients, scale, learningRate, share = () => 1 }: AdamWStep,
  { beta1, beta2, epsilon, weightDecay }: AdamWOptions,
): Passing {
  state.steps += 1
  const startUp = 1 - beta1 ** state.steps
  const correction = 1 / Math.sqrt(1 - beta2 ** state.steps)
  for (const { key, tensor: weight, from, to } of rangesOf(weights)) {
    const gradient = tensorOf(gradients, key, weight.length)
    const first = tensorOf(state.first, key, weight.length)
    const second = tensorOf(state.second, key, weight.length)
    const own = learningRate * share(key)
    const kept = 1 - own * weightDecay(key)
    const rate = own / startUp
    for (let i = from; i < to; i++) {
      const slope = gradient[i]! * scale
      const momentum = beta1 * first[i]! + (1 - beta1) * slope
      const energy = beta2 * second[i]! + (1 - beta2) * slope * slope
      first[i] = momentum
      second[i] = energy
      weight[i] = weight[i]! * kept - (rate * momentum) / (Math.sqrt(energy) * correction + epsilon)
    }
    yield
  }
}
