/**
 * What each device did in the last minutes, second by second, serving and training apart: made of the device time that devices tell
 * of, wherever they are. A unit of work is told of when it ends, so what exceeds the second that it ended in belongs to those before.
 */
import type { DeviceStatus } from '../engine/pool.ts'

export const activitySeconds = 15 * 60
/** Of those that have gone, the ones that were heard of last. */
const mostDevices = 256
const lookEveryMs = 1_000
/** The second that has not passed yet has one of its own. */
const slots = activitySeconds + 1

type Observed = Pick<DeviceStatus, 'name' | 'state' | 'requests'> & {
  readonly load: {
    readonly backlogMs: number
    readonly servingMs: number
    readonly training: { readonly deviceMs: number }
  }
}

export interface DeviceActivity {
  readonly name: string
  /** `gone` is a device of a worker that is not there any more. */
  readonly state: DeviceStatus['state'] | 'gone'
  readonly requests: number
  readonly backlogMs: number
  /** Shares of each second that has passed, the oldest first; together 1 at most. */
  readonly serving: readonly number[]
  readonly training: readonly number[]
}

export interface ActivityOfDevices {
  /** The second, since 1970, that the shares begin with. */
  readonly from: number
  readonly devices: readonly DeviceActivity[]
}

/** A window of seconds, in milliseconds of device time each. */
class Timeline {
  readonly serving = new Float32Array(slots)
  readonly training = new Float32Array(slots)
  last: Observed
  heardAtMs: number

  constructor(first: Observed, nowMs: number) {
    this.last = first
    this.heardAtMs = nowMs
  }

  forget(second: number): void {
    this.serving[second % slots] = 0
    this.training[second % slots] = 0
  }

  /** Puts work that has ended now into the seconds that have room for it, the latest first. */
  add(kind: 'serving' | 'training', workMs: number, nowMs: number): void {
    const newest = Math.floor(nowMs / 1000)
    let leftMs = workMs
    for (let second = newest; second > newest - activitySeconds && leftMs > 0; second--) {
      const slot = second % slots
      const passedMs = second === newest ? nowMs - newest * 1000 : 1000
      const freeMs = passedMs - this.serving[slot]! - this.training[slot]!
      const takenMs = Math.min(leftMs, Math.max(0, freeMs))
      this[kind][slot]! += takenMs
      leftMs -= takenMs
    }
  }
}

export class ActivityLog {
  readonly #timelines = new Map<string, Timeline>()
  #nowMs: number

  /** @param nowMs milliseconds since 1970, as everywhere here */
  constructor(nowMs: number) {
    this.#nowMs = nowMs
  }

  observe(devices: readonly Observed[], wallMs: number): void {
    // A clock that is set back stands still here until it has caught up.
    const nowMs = Math.max(this.#nowMs, wallMs)
    this.#advance(nowMs)
    for (const device of devices) {
      const timeline = this.#timelines.get(device.name)
      if (timeline) {
        const { last } = timeline
        timeline.add('serving', since(last.load.servingMs, device.load.servingMs), nowMs)
        timeline.add('training', since(last.load.training.deviceMs, device.load.training.deviceMs), nowMs)
        timeline.last = device
        timeline.heardAtMs = nowMs
      } else this.#timelines.set(device.name, new Timeline(device, nowMs))
    }
    this.#leaveOut(nowMs)
  }

  /** @param seconds how many of the last, 900 at most */
  tell(seconds: number): ActivityOfDevices {
    const end = Math.floor(this.#nowMs / 1000)
    const from = end - seconds
    const shares = (ofSlots: Float32Array): number[] =>
      Array.from({ length: seconds }, (_, index) => {
        const share = ofSlots[(from + index) % slots]! / 1000
        return Math.round(share * 100) / 100
      })
    const devices = [...this.#timelines.values()].map(({ last, heardAtMs, serving, training }) => ({
      name: last.name,
      state: heardAtMs < this.#nowMs ? ('gone' as const) : last.state,
      requests: heardAtMs < this.#nowMs ? 0 : last.requests,
      backlogMs: heardAtMs < this.#nowMs ? 0 : last.load.backlogMs,
      serving: shares(serving),
      training: shares(training),
    }))
    return {
      from,
      devices: devices.toSorted((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
    }
  }

  #advance(nowMs: number): void {
    const newest = Math.floor(nowMs / 1000)
    const before = Math.floor(this.#nowMs / 1000)
    for (let second = Math.max(before + 1, newest - slots + 1); second <= newest; second++)
      for (const timeline of this.#timelines.values()) timeline.forget(second)
    this.#nowMs = nowMs
  }

  #leaveOut(nowMs: number): void {
    const byAge = [...this.#timelines].toSorted(([, a], [, b]) => b.heardAtMs - a.heardAtMs)
    for (const [place, [name, { heardAtMs }]] of byAge.entries())
      if (heardAtMs < nowMs - activitySeconds * 1000 || (place >= mostDevices && heardAtMs < nowMs))
        this.#timelines.delete(name)
  }
}

/** A process that was restarted counts from nothing. */
const since = (before: number, now: number): number => (now >= before ? now - before : now)

export interface ActivityWatch {
  tell(seconds: number): ActivityOfDevices
  close(): void
}

export function watchActivity(pool: { readonly devices: readonly DeviceStatus[] }): ActivityWatch {
  const log = new ActivityLog(Date.now())
  const look = () => log.observe(pool.devices, Date.now())
  look()
  const timer = setInterval(look, lookEveryMs)
  timer.unref()
  return {
    tell(seconds) {
      look()
      return log.tell(seconds)
    },
    close: () => clearInterval(timer),
  }
}
