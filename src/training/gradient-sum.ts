/** Gradients of several micro-batches together, and how large they may be. */
import { atOnce, rangesOf, tensorOf, zerosLike, type Passing, type Tensors } from './tensors.ts'

/** Adds up in the order in which they are given, so that the sum depends on nothing else. */
export class GradientSum {
  readonly gradients: Tensors
  #weight = 0

  /** @param like tensors of the gradients' keys and sizes */
  constructor(like: Tensors) {
    this.gradients = zerosLike(like)
  }

  /** Sum of the weights so far: dividing by it makes the sum a mean. */
  get weight(): number {
    return this.#weight
  }

  /**
   * @param weight of this micro-batch in the mean, such as its number of rows
   * @throws {RangeError} when a gradient is missing or has another size
   */
  add(gradients: Tensors, weight: number): void {
    atOnce(this.adding(gradients, weight))
  }

  /** The same with stops. */
  *adding(gradients: Tensors, weight: number): Passing {
    const isFirst = this.#weight === 0
    for (const { key, tensor: sum, from, to } of rangesOf(this.gradients)) {
      const gradient = tensorOf(gradients, key, sum.length)
      if (isFirst) for (let i = from; i < to; i++) sum[i] = weight * gradient[i]!
      else for (let i = from; i < to; i++) sum[i] = sum[i]! + weight * gradient[i]!
      yield
    }
    this.#weight += weight
  }

  /** What is added next takes the place of what is there, a part of a sum included. */
  clear(): void {
    this.#weight = 0
  }
}

/** The Euclidean norm of all gradients as one vector. */
export const globalNorm = (gradients: Tensors): number => atOnce(normPass(gradients))

/** The same with stops. */
export function* normPass(gradients: Tensors): Passing<number> {
  let squares = 0
  for (const { tensor, from, to } of rangesOf(gradients)) {
    for (let i = from; i < to; i++) squares += tensor[i]! * tensor[i]!
    yield
  }
  return Math.sqrt(squares)
}

/** What to multiply gradients of that norm by so that it is at most `largest` (Pascanu et al. 2013), as PyTorch does. */
export const clipFactor = (norm: number, largest: number): number => Math.min(1, largest / (norm + 1e-6))
