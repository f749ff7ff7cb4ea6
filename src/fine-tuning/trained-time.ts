/** How long devices have trained, asked for again and again. */
import type { ServingPool } from '../engine/pool.ts'

type Devices = Pick<ServingPool, 'devices'>

export class TrainedTime {
  readonly #pool: Devices
  #last: ReadonlyMap<string, number>

  constructor(pool: Devices) {
    this.#pool = pool
    this.#last = trainedMs(pool)
  }

  /** Milliseconds of all devices since the last call; a device that began anew counts from nothing. */
  take(): number {
    const before = this.#last
    this.#last = trainedMs(this.#pool)
    return [...this.#last].reduce((sum, [device, ms]) => {
      const was = before.get(device) ?? 0
      return sum + (ms >= was ? ms - was : ms)
    }, 0)
  }
}

const trainedMs = ({ devices }: Devices): ReadonlyMap<string, number> =>
  new Map(devices.map(({ name, load }) => [name, load.training.deviceMs]))
