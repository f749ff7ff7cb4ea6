/**
 * The device's loop: schedule → run → settle.
 *
 * Requests join and leave between two units of work. Running a unit blocks the thread, so messages from the parent (new
 * requests, cancellations) are heard between units, where the loop yields to the event loop. What is not for requests, such as
 * training, runs unit by unit in the time that they leave.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { Background } from './background.ts'
import type { Limits, Work } from './batch.ts'
import type { CostBook } from './cost-book.ts'
import type { Pipeline } from './pipeline.ts'
import type { ChildMessage, DeviceLoad, ImageRequest } from './protocol.ts'
import { Requests } from './requests.ts'
import type { Residency } from './residency.ts'
import type { Task } from './task.ts'
import {
  nextTurn,
  nothingOwed,
  owedAfterRequests,
  owedAfterUse,
  sharesWith,
  type BackgroundKind,
} from './turn.ts'

export interface LoopOptions {
  readonly device: string
  readonly residency: Residency
  /** What work costs, by key of the pipeline. */
  readonly books: Map<string, CostBook>
  readonly limits: Limits
  /** Share of the device's time that a job gets even while requests wait; 0 by default. */
  readonly trainingShare?: number | undefined
  /** Takes progress, outcomes and what the parent must know of the device. */
  readonly tell: (message: ChildMessage) => void
}

type Turn =
  | { readonly kind: 'requests'; readonly work: Work<Task> }
  | { readonly kind: 'background'; readonly of: BackgroundKind }

/** How often the parent hears what is left to do, and how often what it costs, at most. */
const loadEveryMs = 200
const costsEveryMs = 5_000

export class Loop {
  /** What is done besides requests. */
  readonly background = new Background(() => this.#arrival.resolve())
  readonly #options: LoopOptions
  readonly #requests: Requests
  /** Of anything that a loop without work would wake up for. */
  #arrival = Promise.withResolvers<void>()
  /** Device time that is owed to what is done besides requests. */
  #owed = nothingOwed
  #toldLoadMs = -Infinity
  #toldCostsMs = -Infinity

  constructor(options: LoopOptions) {
    this.#options = options
    this.#requests = new Requests(options)
  }

  submit(request: ImageRequest): void {
    this.#requests.submit(request)
    this.#arrival.resolve()
  }

  /** The request leaves before the next unit of work, and its rows with it. Unknown ids are ignored: it may just have ended. */
  cancel(id: string): void {
    this.#requests.cancel(id)
  }

  /** New requests for its name get this model from now on; those that were begun end on the one before, which then leaves. */
  putLive(pipeline: Pipeline, book: CostBook): void {
    this.#options.books.set(pipeline.key, book)
    this.#options.residency.put(pipeline)
    this.#modelsChanged()
  }

  /** New requests for the name are refused from now on; those that were begun end. */
  withdraw(name: string): void {
    this.#options.residency.remove(name)
    this.#modelsChanged()
  }

  get load(): DeviceLoad {
    return { ...this.#requests.load, training: this.background.load }
  }

  async run(): Promise<never> {
    for (;;) {
      this.#arrival = Promise.withResolvers()
      const turn = this.#schedule()
      if (turn) this.#settle(turn, await this.#run(turn))
      else this.#tellLoad('now')
      await this.#letGo()
      await (turn ? yieldToEvents() : this.#arrival.promise)
    }
  }

  #schedule(): Turn | undefined {
    const work = this.#requests.next(performance.now())
    const next = nextTurn(work ? 'waiting' : 'none', this.background.ready, this.#owed)
    if (next === 'idle') return undefined
    if (next !== 'requests') return { kind: 'background', of: next }
    return work && { kind: 'requests', work }
  }

  /** @returns how long it took */
  async #run(turn: Turn): Promise<number> {
    return turn.kind === 'requests' ? this.#requests.carryOut(turn.work) : this.background.run(turn.of)
  }

  /** Keeps the account of what is owed, and tells. */
  #settle(turn: Turn, tookMs: number): void {
    const { residency, tell, trainingShare = 0 } = this.#options
    const shares = sharesWith(trainingShare)
    this.#owed =
      turn.kind === 'requests'
        ? owedAfterRequests(this.#owed, tookMs, this.background.ready, shares)
        : owedAfterUse(this.#owed, tookMs, turn.of, shares)
    if (turn.kind === 'requests' && turn.work.kind === 'load')
      tell({ type: 'models', models: residency.infos })
    this.#tellLoad('now and then')
  }

  /** Models that were replaced or withdrawn leave when what was begun on them has ended. */
  async #letGo(): Promise<void> {
    const gone = await this.#options.residency.letGo((pipeline) => this.#requests.isUsing(pipeline))
    for (const { key } of gone) this.#options.books.delete(key)
  }

  #modelsChanged(): void {
    this.#options.tell({ type: 'models', models: this.#options.residency.infos })
    this.tellCosts()
    this.#arrival.resolve()
  }

  /** @param when `now and then`: not more often than the parent needs */
  #tellLoad(when: 'now' | 'now and then'): void {
    const nowMs = performance.now()
    if (when === 'now' || nowMs - this.#toldLoadMs >= loadEveryMs) {
      this.#toldLoadMs = nowMs
      this.#options.tell({ type: 'load', load: this.load })
    }
    if (nowMs - this.#toldCostsMs >= costsEveryMs) this.tellCosts()
  }

  /** What the parent must know before any work is done here. */
  tellCosts(): void {
    this.#toldCostsMs = performance.now()
    const { residency, books, tell } = this.#options
    const served = residency.names.map((name) => [name, residency.get(name)!] as const)
    tell({
      type: 'costs',
      costs: Object.fromEntries(served.map(([name, { key }]) => [name, books.get(key)!.costs])),
      memory: Object.fromEntries(served.map(([name, { model }]) => [name, model.memory])),
    })
  }
}
