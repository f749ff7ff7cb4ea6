/** What a device does for training, as its parent tells it: jobs that are at home here, and micro-batches of others' jobs. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { exchangeFolder } from '../training/exchange.ts'
import type { MicroBatchOrder, Peers, TrainingHost, TrainingUnit } from '../training/host.ts'
import type { TrainingJob } from '../training/job.ts'
import type { Background } from './background.ts'
import { Orders } from './orders.ts'
import type { Assistant, Trainer } from './trainer.ts'
import type { OrderKey, OrderNews, TrainingChildMessage, TrainingNews } from './training-protocol.ts'
import { TrainingSessions, type ProviderOptions } from './training-sessions.ts'

export interface JobsOptions {
  readonly background: Background
  readonly trainer: Trainer
  /** What sessions are opened with. */
  readonly provider: ProviderOptions
  readonly tell: (message: TrainingChildMessage) => void
}

interface Home {
  readonly pause: AbortController
  readonly orders: Orders
}

interface Helping {
  readonly assistant: Assistant
  readonly sessions: TrainingSessions
}

export class Jobs {
  readonly #options: JobsOptions
  readonly #homes = new Map<string, Home>()
  readonly #helping = new Map<string, Helping>()
  /** The order that has not been begun. */
  #waiting: OrderKey | undefined

  constructor(options: JobsOptions) {
    this.#options = options
  }

  /** @param others devices that could help */
  train(job: TrainingJob, others: number): void {
    const { background, tell } = this.#options
    const home = { pause: new AbortController(), orders: new Orders(job.id, tell) }
    this.#homes.set(job.id, home)
    const peers = others > 0 ? home.orders : undefined
    background.add({ kind: 'training', name: job.id, units: this.#run(job, home, peers) })
  }

  pause(job: string): void {
    if (!this.#takeBack(job, 'paused')) this.#homes.get(job)?.pause.abort()
  }

  cancel(job: string): void {
    if (this.#takeBack(job, 'cancelled')) return
    // It would wait for them before it leaves.
    this.#homes.get(job)?.orders.abandon()
    this.#options.background.end('training', job)
  }

  #takeBack(job: string, kind: 'paused' | 'cancelled'): boolean {
    if (this.#options.background.takeBack('training', job) !== 'taken-back') return false
    this.#homes.delete(job)
    this.#news(job, { kind: 'ended', outcome: { kind } })
    return true
  }

  hearOfOrder({ job, round, microBatch }: OrderKey, news: OrderNews): void {
    this.#homes.get(job)?.orders.hear(round, microBatch, news)
  }

  hearOfHelpers(job: string, free: Peers['free']): void {
    const home = this.#homes.get(job)
    if (home) home.orders.free = free
  }

  /** Computes one micro-batch of another device's job, when nothing else is to do. */
  assist(job: TrainingJob, round: number, order: MicroBatchOrder): void {
    const key = { job: job.id, round, microBatch: order.microBatch }
    this.#waiting = key
    this.#options.background.add({
      kind: 'assistance',
      name: nameOf(key),
      units: this.#compute(job, key, order),
    })
  }

  /** A request or an errand came: what is not begun may be done sooner by another device. */
  giveWay(): void {
    if (!this.#waiting) return
    this.#options.background.takeBack('assistance', nameOf(this.#waiting))
    this.#assisted(this.#waiting, { kind: 'declined' })
    this.#waiting = undefined
  }

  /** The job is over: what was opened to help it is closed, after what is at work. */
  dismiss(job: string): void {
    if (this.#waiting?.job === job) this.giveWay()
    this.#options.background.add({ kind: 'assistance', name: `the end of ${job}`, units: this.#leave(job) })
  }

  async *#run(job: TrainingJob, home: Home, peers: Orders | undefined): AsyncGenerator<TrainingUnit, void> {
    const { trainer, provider } = this.#options
    const sessions = new TrainingSessions(provider)
    const host: TrainingHost = {
      openSession: sessions.openSession,
      lowering: sessions.lowering,
      tell: (event) => {
        if (event.type === 'step') this.#options.background.countStep()
        this.#news(job.id, { kind: 'event', event })
      },
      pause: home.pause.signal,
      peers,
    }
    let end: TrainingNews = { kind: 'ended', outcome: { kind: 'cancelled' } }
    try {
      this.#news(job.id, { kind: 'begun' })
      end = { kind: 'ended', outcome: yield* trainer.train(job, host) }
    } catch (error) {
      end = { kind: 'failed', message: messageOf(error) }
    } finally {
      this.#homes.delete(job.id)
      try {
        await sessions.closeAll()
      } catch (error) {
        end = { kind: 'failed', message: messageOf(error) }
      }
      this.#news(job.id, end)
    }
  }

  async *#compute(
    job: TrainingJob,
    key: OrderKey,
    order: MicroBatchOrder,
  ): AsyncGenerator<TrainingUnit, void> {
    this.#waiting = undefined
    const name = `gradients-${order.stage}-${order.step}-${order.microBatch}-${randomUUID()}.safetensors`
    const file = join(exchangeFolder(job.folder), name)
    try {
      const { assistant } = await this.#help(job)
      await assistant.compute(order, file)
      this.#assisted(key, { kind: 'done', file })
      yield { kind: 'micro-step' }
    } catch (error) {
      this.#assisted(key, { kind: 'failed', message: messageOf(error) })
    }
  }

  async #help(job: TrainingJob): Promise<Helping> {
    const known = this.#helping.get(job.id)
    if (known) return known
    const { trainer, provider } = this.#options
    const sessions = new TrainingSessions(provider)
    try {
      const helping = { assistant: await trainer.openAssistant(job, sessions), sessions }
      this.#helping.set(job.id, helping)
      return helping
    } catch (error) {
      await sessions.closeAll()
      throw error
    }
  }

  async *#leave(job: string): AsyncGenerator<TrainingUnit, void> {
    const helping = this.#helping.get(job)
    this.#helping.delete(job)
    await helping?.assistant.close().catch(() => undefined)
    await helping?.sessions.closeAll()
    yield { kind: 'prepare' }
  }

  #news(job: string, news: TrainingNews): void {
    this.#options.tell({ type: 'training', job, news })
  }

  #assisted(key: OrderKey, result: Extract<TrainingChildMessage, { type: 'assisted' }>['result']): void {
    this.#options.tell({ type: 'assisted', ...key, result })
  }
}

const nameOf = ({ job, round, microBatch }: OrderKey): string => `${job}, ${round}, ${microBatch}`

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
