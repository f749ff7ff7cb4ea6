/** What this process has done since it started, for its metrics. */
import type { Settled } from './worker.ts'

export interface TotalsSinceStart {
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  /** Because the queue was full. */
  readonly refused: number
  readonly images: number
  readonly deviceSeconds: number
  readonly rowSteps: number
}

export class Totals {
  cancelled = 0
  refused = 0
  #succeeded = 0
  #failed = 0
  #images = 0
  #deviceMs = 0
  #rowSteps = 0

  add(settled: Settled): void {
    switch (settled.state) {
      case 'failed':
        this.#failed += 1
        break
      case 'succeeded':
        this.#succeeded += 1
        this.#images += settled.images.length
        for (const { receipt } of settled.images) {
          this.#deviceMs += receipt.deviceMs
          this.#rowSteps += receipt.rowSteps
        }
    }
  }

  now(): TotalsSinceStart {
    return {
      succeeded: this.#succeeded,
      failed: this.#failed,
      cancelled: this.cancelled,
      refused: this.refused,
      images: this.#images,
      deviceSeconds: this.#deviceMs / 1000,
      rowSteps: this.#rowSteps,
    }
  }
}
