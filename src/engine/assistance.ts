/** Between devices: what a job's home offers goes to those that have nothing to do, and what they computed goes back. */
import { rm } from 'node:fs/promises'
import type { MicroBatchOrder, Peers } from '../training/host.ts'
import type { TrainingJob } from '../training/job.ts'
import type { OrderMessage } from './device-talks.ts'
import type { AssistanceResult, OrderKey, OrderNews, TrainingParentMessage } from './training-protocol.ts'

/** A device as this sees it. */
export interface Helper {
  readonly name: string
  /** It is ready, serves nobody and is home to no job. */
  readonly isFree: boolean
  send(message: TrainingParentMessage): void
}

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
}

interface Taken<H> {
  readonly key: OrderKey
  readonly order: MicroBatchOrder
  /** Of the job as it was begun then: another home counts its rounds anew. */
  readonly of: Relayed<H>
}

export class Assistance<H extends Helper> {
  readonly #devices: readonly H[]
  readonly #onNote: (device: H, message: string) => void
  readonly #jobs = new Map<string, Relayed<H>>()
  /** What each helper is at. */
  readonly #atWork = new Map<H, Taken<H>>()

  constructor(devices: readonly H[], onNote: (device: H, message: string) => void) {
    this.#devices = devices
    this.#onNote = onNote
  }

  begin(job: TrainingJob, home: H): void {
    this.#jobs.set(job.id, { job, home, round: 0, open: [], unable: new Set(), free: 'someone' })
  }

  /** The job has ended, or its home is gone. */
  end(job: string): void {
    if (!this.#jobs.delete(job)) return
    for (const device of this.#devices) device.send({ type: 'dismiss', job })
  }

  hear(device: H, message: OrderMessage): void {
    const relayed = this.#jobs.get(message.job)
    switch (message.type) {
      case 'offer':
        if (relayed?.home !== device) return
        relayed.round = message.round
        relayed.open = [...message.orders]
        return this.distribute()
      case 'kept':
        if (relayed?.home === device && relayed.round === message.round)
          relayed.open = relayed.open.filter(({ microBatch }) => microBatch !== message.microBatch)
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
        .filter((one) => one.open.length > 0 && couldHelp(device, one))
        .toSorted((a, b) => b.open.length - a.open.length)[0]
      const order = relayed?.open.pop()
      if (!relayed || !order) continue
      const { job, round, home } = relayed
      const key = { job: job.id, round, microBatch: order.microBatch }
      this.#atWork.set(device, { key, order, of: relayed })
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

  #ended(device: H, key: OrderKey, result: AssistanceResult): void {
    const taken = this.#atWork.get(device)
    if (!taken || taken.key.microBatch !== key.microBatch || taken.key.round !== key.round) return
    switch (result.kind) {
      case 'done':
        this.#atWork.delete(device)
        if (this.#isWanted(taken)) this.#tell(taken.of.home, key, result)
        else rm(result.file, { force: true }).catch(() => undefined)
        return
      case 'declined':
        return this.#reopen(device, taken, `${device.name} has requests to serve`)
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
