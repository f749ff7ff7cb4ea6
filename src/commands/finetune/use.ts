/** What a job uses while it runs, measured now and then: meters tell of the moment, or count up to a bound and begin anew. */
import type { Pool } from '../../engine/pool.ts'
import type { EnergyMeter } from '../../energy/meter.ts'
import { TrainedTime } from '../../fine-tuning/trained-time.ts'

const everyMs = 10_000

export class JobUse {
  readonly #trained: TrainedTime
  readonly #meter: EnergyMeter
  readonly #timer: NodeJS.Timeout
  #deviceMs = 0
  #joules = 0
  #measuring: Promise<void>

  constructor(pool: Pick<Pool, 'devices'>, meter: EnergyMeter) {
    this.#trained = new TrainedTime(pool)
    this.#meter = meter
    // Counters are read from here on.
    this.#measuring = this.#measure()
    this.#timer = setInterval(() => void this.#measureAgain(), everyMs)
    this.#timer.unref()
  }

  async end(): Promise<{ readonly deviceMs: number; readonly joules: number }> {
    clearInterval(this.#timer)
    await this.#measureAgain()
    return { deviceMs: this.#deviceMs, joules: this.#joules }
  }

  #measureAgain(): Promise<void> {
    this.#measuring = this.#measuring.then(() => this.#measure())
    return this.#measuring
  }

  async #measure(): Promise<void> {
    const deviceMs = this.#trained.take()
    this.#deviceMs += deviceMs
    this.#joules += (await this.#meter.take(deviceMs)).joules
  }
}
