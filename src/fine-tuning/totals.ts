/** What jobs of this process have done since it started, for its metrics. */
import type { StepReport } from '../training/job.ts'

export class TrainingTotals {
  #steps = 0
  #images = 0
  #imagesPerSecond = 0

  add(steps: readonly StepReport[], imagesPerStep: number): void {
    this.#steps += steps.length
    this.#images += steps.length * imagesPerStep
    this.#imagesPerSecond = steps.at(-1)?.imagesPerSecond ?? this.#imagesPerSecond
  }

  now(): { readonly steps: number; readonly images: number; readonly imagesPerSecond: number } {
    return { steps: this.#steps, images: this.#images, imagesPerSecond: this.#imagesPerSecond }
  }
}
