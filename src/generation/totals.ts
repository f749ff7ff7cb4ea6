/** What this process has done since it started, for its metrics. */
import { energySources, type EnergySource } from '../energy/footprint.ts'
import { PhaseTimes } from './phase-times.ts'
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
  /** Of stored pictures, by where the figure is from. */
  readonly joules: Readonly<Record<EnergySource, number>>
}

export class Totals {
  readonly phaseTimes = new PhaseTimes()
  cancelled = 0
  refused = 0
  #succeeded = 0
  #failed = 0
  #images = 0
  #deviceMs = 0
  #rowSteps = 0
  readonly #joules = Object.fromEntries(energySources.map((source) => [source, 0])) as Record<
    EnergySource,
    number
  >

  add(settled: Settled): void {
    switch (settled.state) {
      case 'failed':
        this.#failed += 1
        break
      case 'succeeded':
        this.#succeeded += 1
        this.#images += settled.images.length
        this.phaseTimes.add(
          settled,
          settled.images.map(({ timings }) => timings),
        )
        for (const { receipt, joules, energySource } of settled.images) {
          if (joules !== null && energySource !== null) this.#joules[energySource] += joules
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
      joules: { ...this.#joules },
    }
  }
}
