/** At a job's home: which micro-batches of a step other devices have taken, and what came of them. */
import type { MicroBatchOrder, Peers } from '../training/host.ts'
import type { OrderNews, TrainingChildMessage } from './training-protocol.ts'

interface Taken extends PromiseWithResolvers<string> {
  /** The run waits for it, and does it itself when it is lost. */
  isAwaited: boolean
}

export class Orders implements Peers {
  /** As the parent has told last. */
  free: Peers['free'] = 'someone'
  readonly #job: string
  readonly #tell: (message: TrainingChildMessage) => void
  #round = 0
  readonly #taken = new Map<number, Taken>()
  /** What the run took for itself. */
  readonly #kept = new Set<number>()

  constructor(job: string, tell: (message: TrainingChildMessage) => void) {
    this.#job = job
    this.#tell = tell
  }

  offer(orders: readonly MicroBatchOrder[]): void {
    this.#round += 1
    this.#taken.clear()
    this.#kept.clear()
    this.#tell({ type: 'offer', job: this.#job, round: this.#round, orders })
  }

  take(microBatch: number): 'open' | Promise<string> {
    const taken = this.#taken.get(microBatch)
    if (!taken) {
      this.#keep(microBatch)
      return 'open'
    }
    taken.isAwaited = true
    this.#tell({ type: 'awaited', job: this.#job, round: this.#round, microBatch })
    return taken.promise
  }

  hear(round: number, microBatch: number, news: OrderNews): void {
    if (round !== this.#round || this.#kept.has(microBatch)) return
    switch (news.kind) {
      case 'taken': {
        const taken = { ...Promise.withResolvers<string>(), isAwaited: false }
        // The run may never come to ask for it.
        taken.promise.catch(() => undefined)
        this.#taken.set(microBatch, taken)
        return
      }
      case 'done':
        return this.#taken.get(microBatch)?.resolve(news.file)
      case 'lost': {
        const taken = this.#taken.get(microBatch)
        this.#taken.delete(microBatch)
        if (taken?.isAwaited) this.#keep(microBatch)
        taken?.reject(new Error(news.reason))
      }
    }
  }

  /** Whoever waits for another device waits no longer. */
  abandon(): void {
    for (const { reject } of this.#taken.values()) reject(new Error('the run ends'))
  }

  #keep(microBatch: number): void {
    this.#kept.add(microBatch)
    this.#tell({ type: 'kept', job: this.#job, round: this.#round, microBatch })
  }
}
