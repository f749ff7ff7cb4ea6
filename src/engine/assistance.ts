/** Between devices: what a job's home offers goes to those that have nothing to do, and what they computed goes back. */
import { rm } from 'node:fs/promises'
import type { MicroBatchOrder, Peers } from '../training/host.ts'
import type { TrainingJob } from '../training/job.ts'
import type { OrderMessage } from './device-talks.ts'
import type { AssistanceResult, OrderKey, OrderNews, TrainingParentMessage } from './training-protocol.ts'

/** A device as this sees it. */
export interface Helper {
  readonly name: string
  /** It is ready, serves nobody, has no errand and is home to no job. */
  readonly isFree: boolean
  send(message: TrainingParentMessage): void
}

/** With each round, so that who was slow for a while is tried again. */
const fading = 0.98

interface Relayed<H> {
  readonly job: TrainingJob
  readonly home: H
  round: number
  /** Those that nobody has taken, in the order of the offer. */
  open: MicroBatchOrder[]
  /** They could not do what they were asked to, and are not asked again. */
  readonly unable: Set<H>
  /** What the home has heard. */
  free: Peers['free']
  /** When the home last began a micro-batch of this round, and how long its last one took. */
  keptAtMs: number | undefined
  homeMs: number
  /** How long each helper's last order took, but for its first, which opens what it needs. */
  readonly helperMs: Map<H, number>
  /** Those that have done one. */
  readonly warm: Set<H>
}

interface Taken<H> {
  readonly key: OrderKey
  readonly order: MicroBatchOrder
  /** Of the job as it was begun then: another home counts its rounds anew. */
  readonly of: Relayed<H>
  readonly sinceMs: number
}

export class Assistance<H extends Helper> {
  readonly #devices: readonly H[]
  readonly #onNote: (device: H, message: string) => void
  readonly #now: () => number
  readonly #jobs = new Map<string, Relayed<H>>()
  /** What each helper is at. */
  readonly #atWork = new Map<H, Taken<H>>()

  /** @param now a clock in milliseconds */
  constructor(
    devices: readonly H[],
    onNote: (device: H, message: string) => void,
    now = (): number => performance.now(),
  ) {
    this.#devices = devices
    this.#onNote = onNote
    this.#now = now
  }

  begin(job: TrainingJob, home: H): void {
    this.#jobs.set(job.id, {
      job,
      home,
      round: 0,
      open: [],
      unable: new Set(),
      free: 'someone',
      keptAtMs: undefined,
      homeMs: Infinity,
      helperMs: new Map(),
      warm: new Set(),
    })
  }

  /** The job has ended, or its home is gone. */
  end(job: string): void {
    if (!this.#jobs.delete(job)) return
    for (const device of this.#devices) device.send({ type: 'dismiss', job })
    // Its home may be free to help others.
    this.distribute()
  }

  hear(device: H, message: OrderMessage): void {
    const relayed = this.#jobs.get(message.job)
    switch (message.type) {
      case 'offer':
        if (relayed?.home !== device) return
        relayed.round = message.round
        relayed.open = [...message.orders]
        relayed.keptAtMs = undefined
        for (const [helper, ms] of relayed.helperMs) relayed.helperMs.set(helper, fading * ms)
        return this.distribute()
      case 'kept':
      case 'awaited':
        if (relayed?.home === device && relayed.round === message.round) this.#cameTo(relayed, message)
        return
      case 'assisted':
        this.#ended(
          device,
          { job: message.job, round: message.round, microBatch: message.microBatch },
          message.result,
        )
        return this.distribute()
    }
  }

  /** What it was at is lost, and may be taken again. */
  died(device: H): void {
    const taken = this.#atWork.get(device)
    if (taken) this.#reopen(device, taken, `${device.name} is gone`)
    this.distribute()
  }

  /** Gives what is open to whoever is free. To be called when a device becomes free. */
  distribute(): void {
    for (const relayed of this.#jobs.values()) this.#tellWhetherFree(relayed)
    for (const device of this.#devices) {
      if (this.#atWork.has(device)) continue
      const relayed = [...this.#jobs.values()]
        .filter((one) => couldHelp(device, one) && isWorthIt(device, one))
        .toSorted((a, b) => b.open.length - a.open.length)[0]
      const order = relayed?.open.pop()
      if (!relayed || !order) continue
      const { job, round, home } = relayed
      const key = { job: job.id, round, microBatch: order.microBatch }
      this.#atWork.set(device, { key, order, of: relayed, sinceMs: this.#now() })
      this.#tell(home, key, { kind: 'taken' })
      device.send({ type: 'assist', job, round, order })
    }
  }

  #tellWhetherFree(relayed: Relayed<H>): void {
    const free = this.#devices.some((device) => couldHelp(device, relayed)) ? 'someone' : 'nobody'
    if (free === relayed.free) return
    relayed.free = free
    relayed.home.send({ type: 'helpers', job: relayed.job.id, free })
  }

  /** The home has ended the one before, if it computed that itself. */
  #cameTo(relayed: Relayed<H>, { type, microBatch }: OrderMessage & { readonly microBatch: number }): void {
    relayed.open = relayed.open.filter((order) => order.microBatch !== microBatch)
    const nowMs = this.#now()
    if (relayed.keptAtMs !== undefined) relayed.homeMs = nowMs - relayed.keptAtMs
    relayed.keptAtMs = type === 'kept' ? nowMs : undefined
  }

  #ended(device: H, key: OrderKey, result: AssistanceResult): void {
    const taken = this.#atWork.get(device)
    if (!taken || taken.key.microBatch !== key.microBatch || taken.key.round !== key.round)
      return forget(result)
    switch (result.kind) {
      case 'done':
        this.#atWork.delete(device)
        if (taken.of.warm.has(device)) taken.of.helperMs.set(device, this.#now() - taken.sinceMs)
        taken.of.warm.add(device)
        if (this.#isWanted(taken)) this.#tell(taken.of.home, key, result)
        else forget(result)
        return
      case 'declined':
        return this.#reopen(device, taken, `${device.name} has something else to do`)
      case 'failed':
        // Of a step that is over even the weights are gone.
        if (this.#isWanted(taken)) {
          taken.of.unable.add(device)
          this.#onNote(device, `it could not help with the job ${key.job}: ${result.message}`)
        }
        return this.#reopen(device, taken, result.message)
    }
  }

  #reopen(device: H, taken: Taken<H>, reason: string): void {
    this.#atWork.delete(device)
    if (!this.#isWanted(taken)) return
    taken.of.open.push(taken.order)
    this.#tell(taken.of.home, taken.key, { kind: 'lost', reason })
  }

  #isWanted({ key: { job, round }, of }: Taken<H>): boolean {
    return this.#jobs.get(job) === of && of.round === round
  }

  #tell(home: H, key: OrderKey, news: OrderNews): void {
    home.send({ type: 'order', ...key, news })
  }
}

const couldHelp = <H extends Helper>(device: H, { home, unable }: Relayed<H>): boolean =>
  device.isFree && device !== home && !unable.has(device)

/** Whether the home would take longer for all that is open than this device for one: else the home would only wait for it. */
const isWorthIt = <H extends Helper>(device: H, { open, homeMs, helperMs }: Relayed<H>): boolean =>
  open.length > 0 && (helperMs.get(device) ?? 0) <= open.length * homeMs

/** Nobody waits for it any more. */
function forget(result: AssistanceResult): void {
  if (result.kind === 'done') rm(result.file, { force: true }).catch(() => undefined)
}
