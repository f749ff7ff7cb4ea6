/** The requests on a device: each one's way through its states, what of it is told, and what is learned from it of the costs. */
import { nextWork, rank, type Limits, type Work } from './batch.ts'
import { carryOut } from './carry-out.ts'
import type { CostBook } from './cost-book.ts'
import { remainingMs, type Costs, type Need } from './costs.ts'
import type { Denoising } from './denoising.ts'
import type { Pipeline } from './pipeline.ts'
import type { ChildMessage, DeviceLoad, ImageRequest } from './protocol.ts'
import type { Residency } from './residency.ts'
import { imageResult, Task, type TaskState } from './task.ts'

export interface RequestsOptions {
  readonly device: string
  readonly residency: Residency
  /** What work costs, by key of the pipeline. */
  readonly books: ReadonlyMap<string, CostBook>
  readonly limits: Limits
  /** Takes progress and outcomes. */
  readonly tell: (message: ChildMessage) => void
}

/** How often it is reckoned when each request will be done: short steps are told of more often than that is worth. */
const etasEveryMs = 50

export class Requests {
  readonly #options: RequestsOptions
  readonly #tasks = new Map<string, Task>() // in order of arrival
  #unitsOfWork = 0
  #textEncodings = 0
  #batchRows = 0
  #denoisingCalls = 0
  #denoisingRows = 0
  #denoisingTokens = 0
  #servingMs = 0
  #etas: { readonly atMs: number; readonly ofTasks: ReadonlyMap<Task, number> } = {
    atMs: -Infinity,
    ofTasks: new Map(),
  }

  constructor(options: RequestsOptions) {
    this.#options = options
  }

  /** Whether a request that was begun on it has not ended. */
  isUsing(pipeline: Pipeline): boolean {
    return this.#tasks.values().some((task) => task.pipeline === pipeline)
  }

  submit(request: ImageRequest): void {
    const { residency, tell } = this.#options
    const pipeline = residency.get(request.model)
    if (!pipeline) {
      const message = `expected one of the models ${residency.names.join(', ')}, got ${request.model}`
      tell({ type: 'failed', id: request.id, code: 'unknown_model', message })
      return
    }
    try {
      const task = new Task(request, pipeline, { nowMs: performance.now(), unixMs: Date.now() })
      this.#tasks.set(request.id, task)
    } catch (error) {
      tell({ type: 'failed', id: request.id, ...describeFailure(error) })
    }
  }

  /** The task leaves before the next unit of work, and its rows with it. Unknown ids are ignored: it may just have ended. */
  cancel(id: string): void {
    this.#tasks.delete(id)
  }

  /** What to do next for requests, if there are any. */
  next(nowMs: number): Work<Task> | undefined {
    return nextWork(this.#tasks.values(), this.#costsOf, nowMs, this.#options.limits)
  }

  /** Does a unit of work and moves its tasks on. @returns how long it took */
  async carryOut(work: Work<Task>): Promise<number> {
    const outcome = await this.#run(work)
    this.#settle(work, outcome)
    return outcome.tookMs
  }

  get load(): Omit<DeviceLoad, 'training'> {
    const pipelines = this.#options.residency.names.map((name) => this.#options.residency.get(name)!)
    return {
      backlogMs: sum([...this.#tasks.values()], ({ need }) => remainingMs(this.#costsOf(need.model), need)),
      batchRows: this.#batchRows,
      unitsOfWork: this.#unitsOfWork,
      denoisingCalls: this.#denoisingCalls,
      denoisingRows: this.#denoisingRows,
      denoisingTokens: this.#denoisingTokens,
      textEncodings: this.#textEncodings,
      promptCacheHits: sum(pipelines, ({ prompts }) => prompts.hits),
      promptCacheBytes: sum(pipelines, ({ prompts }) => prompts.bytes),
      servingMs: this.#servingMs,
    }
  }

  async #run(work: Work<Task>): Promise<Outcome> {
    const { model } = work.tasks[0].pipeline
    const startedMs = performance.now()
    for (const task of work.tasks) this.#start(task, startedMs)
    const needs = work.tasks.map((task) => task.need)
    const computedBeforeMs = model.computedMs
    const measured = (): Measured => ({
      needs,
      tookMs: performance.now() - startedMs,
      computeMs: model.computedMs - computedBeforeMs,
    })
    try {
      const states = await carryOut(work, this.#options.residency)
      return { kind: 'done', states, ...measured() }
    } catch (error) {
      return { kind: 'failed', error, ...measured() }
    }
  }

  /** Moves the tasks on to their next states, and tells of progress, outcomes and costs. */
  #settle(work: Work<Task>, outcome: Outcome): void {
    const { tell } = this.#options
    this.#unitsOfWork += 1
    this.#servingMs += outcome.tookMs
    if (work.kind === 'denoise') {
      this.#batchRows = sum(outcome.needs, ({ rows }) => rows)
      this.#denoisingCalls += 1
      this.#denoisingRows += this.#batchRows
      this.#denoisingTokens += sum(outcome.needs, ({ rows, tokens }) => rows * tokens)
    }
    if (outcome.kind === 'done') this.#observe(work, outcome)
    for (const [index, task] of work.tasks.entries()) {
      const { id } = task.request
      if (this.#tasks.get(id) !== task) continue // cancelled, and perhaps sent again
      recordUsage(task, work, outcome, index)
      if (outcome.kind === 'done') this.#moveOn(task, outcome.states[index]!)
      else {
        this.#tasks.delete(id)
        tell({ type: 'failed', id, ...describeFailure(outcome.error) })
      }
    }
  }

  #moveOn(task: Task, state: TaskState): void {
    const { tell, device } = this.#options
    const { id } = task.request
    const before = task.state
    task.state = state
    switch (state.phase) {
      case 'encode':
        return
      case 'denoise':
        if (before.phase === 'preview' && state.preview) {
          tell({
            type: 'progress',
            id,
            progress: { phase: 'preview', step: state.denoising.step, picture: state.preview },
          })
        }
        if (before.phase !== 'denoise') return
        this.#tellStep(task, state.denoising)
        if (task.wantsPreview) task.state = { phase: 'preview', denoising: state.denoising }
        return
      case 'preview':
        return
      case 'decode':
        if (before.phase !== 'denoise') return
        this.#tellStep(task, state.denoising)
        tell({ type: 'progress', id, progress: { phase: 'decoding', etaMs: this.#etaMs(task) } })
        return
      case 'done':
        this.#tasks.delete(id)
        tell({ type: 'succeeded', id, result: imageResult(task, state, device) })
    }
  }

  #tellStep(task: Task, { step }: Denoising): void {
    const { id, steps } = task.request
    const progress = {
      phase: 'denoising',
      step,
      steps,
      etaMs: this.#etaMs(task),
      batchRows: this.#batchRows,
    } as const
    this.#options.tell({ type: 'progress', id, progress })
  }

  #start(task: Task, nowMs: number): void {
    if (task.startedMs !== undefined) return
    task.startedMs = nowMs
    this.#options.tell({
      type: 'progress',
      id: task.request.id,
      progress: { phase: 'started', etaMs: this.#etaMs(task) },
    })
  }

  #etaMs(task: Task): number {
    const nowMs = performance.now()
    if (nowMs - this.#etas.atMs > etasEveryMs || !this.#etas.ofTasks.has(task)) {
      this.#etas = { atMs: nowMs, ofTasks: this.#reckonEtas(nowMs) }
    }
    return Math.max(0, (this.#etas.ofTasks.get(task) ?? 0) - (nowMs - this.#etas.atMs))
  }

  /** Each task's own rest and that of all that goes before it, as things stand. */
  #reckonEtas(nowMs: number): ReadonlyMap<Task, number> {
    let etaMs = 0
    return new Map(
      rank(this.#tasks.values(), this.#costsOf, nowMs).map((task) => {
        etaMs += remainingMs(this.#costsOf(task.need.model), task.need)
        return [task, etaMs]
      }),
    )
  }

  #observe({ kind, tasks }: Work<Task>, { needs, tookMs, computeMs }: Measured): void {
    const [{ pipeline }] = tasks
    const [{ partsDone } = { partsDone: 0 }] = needs
    const book = this.#options.books.get(pipeline.key)
    this.#options.residency.use(pipeline)
    switch (kind) {
      case 'load':
        return book?.observeLoad(tasks[0].stage, tookMs)
      case 'encode':
        // When all embeddings were there, nothing was computed and nothing was learned.
        if (computeMs === 0) return
        this.#textEncodings += 1
        return book?.observeEncode(
          sum(needs, ({ prompts }) => prompts),
          tookMs,
        )
      case 'denoise':
        return book?.observeStep(
          sum(needs, ({ rows, tokens }) => rows * tokens),
          tookMs,
        )
      case 'decode':
        return book?.observeDecode(
          partsDone,
          sum(needs, ({ latentPixels }) => latentPixels),
          tookMs,
        )
      case 'preview':
    }
  }

  readonly #costsOf = (model: string): Costs => {
    const book = this.#options.books.get(model)
    if (!book) throw new Error(`nothing is known of what the model ${model} costs`)
    return book.costs
  }
}

type Outcome = Measured &
  (
    | { readonly kind: 'done'; readonly states: readonly TaskState[] } // one for each of the work's tasks
    | { readonly kind: 'failed'; readonly error: unknown }
  )

interface Measured {
  /** What each of the work's tasks needed before it. */
  readonly needs: readonly Need[]
  readonly tookMs: number
  /** The part of it that was the library's. */
  readonly computeMs: number
}

function recordUsage(
  { usage, stage }: Task,
  { kind, tasks }: Work<Task>,
  { needs, tookMs, computeMs }: Outcome,
  index: number,
): void {
  const batchRows = sum(needs, ({ rows }) => rows)
  const { rows } = needs[index]!
  // All that share a call have the same number of tokens: their share of it is that of their rows.
  const share = kind === 'denoise' ? rows / batchRows : 1 / tasks.length
  usage.deviceMs += tookMs * share
  usage.computeMs += computeMs
  usage.spentMs[kind === 'load' ? stage : kind === 'preview' ? 'decode' : kind] += tookMs
  if (kind !== 'denoise') return
  usage.rowSteps += rows
  usage.batchRows += batchRows
  usage.maxBatchRows = Math.max(usage.maxBatchRows, batchRows)
}

function describeFailure(error: unknown): { code: 'generation_failed'; message: string } {
  return { code: 'generation_failed', message: error instanceof Error ? error.message : String(error) }
}

const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((total, item) => total + of(item), 0)
