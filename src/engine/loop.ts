/**
 * The device's loop: schedule → run → settle.
 *
 * Tasks join and leave between two units of work. Running a unit blocks the thread, so messages from the parent (new
 * requests, cancellations) are heard between units, where the loop yields to the event loop.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { nextWork, rank, type Limits, type Work } from './batch.ts'
import type { CostBook } from './cost-book.ts'
import { remainingMs, type Costs, type Need } from './costs.ts'
import type { Denoising } from './denoising.ts'
import type { ChildMessage, DeviceLoad, ImageRequest } from './protocol.ts'
import type { Residency } from './residency.ts'
import { imageResult, isIn, Task, type TaskIn, type TaskState } from './task.ts'

export interface LoopOptions {
  readonly device: string
  readonly residency: Residency
  /** What work costs, by model name. */
  readonly books: ReadonlyMap<string, CostBook>
  readonly limits: Limits
  /** Takes progress, outcomes and what the parent must know of the device. */
  readonly tell: (message: ChildMessage) => void
}

/** How often the parent hears what is left to do, and how often what it costs, at most. */
const loadEveryMs = 200
const costsEveryMs = 5_000

/** How often it is reckoned when each request will be done: short steps are told of more often than that is worth. */
const etasEveryMs = 50

export class Loop {
  readonly #options: LoopOptions
  readonly #tasks = new Map<string, Task>() // in order of arrival
  #arrival = Promise.withResolvers<void>()
  #unitsOfWork = 0
  #textEncodings = 0
  #batchRows = 0
  #denoisingCalls = 0
  #denoisingRows = 0
  #servingMs = 0
  #etas: { readonly atMs: number; readonly ofTasks: ReadonlyMap<Task, number> } = {
    atMs: -Infinity,
    ofTasks: new Map(),
  }
  #toldLoadMs = -Infinity
  #toldCostsMs = -Infinity

  constructor(options: LoopOptions) {
    this.#options = options
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
      this.#arrival.resolve()
    } catch (error) {
      tell({ type: 'failed', id: request.id, ...describeFailure(error) })
    }
  }

  /** The task leaves before the next unit of work, and its rows with it. Unknown ids are ignored: it may just have ended. */
  cancel(id: string): void {
    this.#tasks.delete(id)
  }

  async run(): Promise<never> {
    for (;;) {
      const work = this.#schedule()
      if (work) {
        this.#settle(work, await this.#run(work))
        await yieldToEvents()
      } else {
        this.#tellLoad('now')
        this.#arrival = Promise.withResolvers()
        await this.#arrival.promise
      }
    }
  }

  #schedule(): Work<Task> | undefined {
    return nextWork(this.#tasks.values(), this.#costsOf, performance.now(), this.#options.limits)
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
    const { tell, residency } = this.#options
    this.#unitsOfWork += 1
    this.#servingMs += outcome.tookMs
    if (work.kind === 'denoise') {
      this.#batchRows = sum(outcome.needs, ({ rows }) => rows)
      this.#denoisingCalls += 1
      this.#denoisingRows += this.#batchRows
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
    if (work.kind === 'load') tell({ type: 'models', models: residency.infos })
    this.#tellLoad('now and then')
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
    const [{ request }] = tasks
    const [{ partsDone } = { partsDone: 0 }] = needs
    const book = this.#options.books.get(request.model)
    this.#options.residency.use(request.model)
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

  /** @param when `now and then`: not more often than the parent needs */
  #tellLoad(when: 'now' | 'now and then'): void {
    const nowMs = performance.now()
    const { tell, residency, books } = this.#options
    if (when === 'now' || nowMs - this.#toldLoadMs >= loadEveryMs) {
      this.#toldLoadMs = nowMs
      tell({ type: 'load', load: this.#load })
    }
    if (nowMs - this.#toldCostsMs >= costsEveryMs) {
      this.#toldCostsMs = nowMs
      tell({
        type: 'costs',
        costs: Object.fromEntries(residency.names.map((name) => [name, books.get(name)!.costs])),
      })
    }
  }

  get #load(): DeviceLoad {
    const pipelines = this.#options.residency.names.map((name) => this.#options.residency.get(name)!)
    return {
      backlogMs: sum([...this.#tasks.values()], ({ need }) => remainingMs(this.#costsOf(need.model), need)),
      batchRows: this.#batchRows,
      unitsOfWork: this.#unitsOfWork,
      denoisingCalls: this.#denoisingCalls,
      denoisingRows: this.#denoisingRows,
      textEncodings: this.#textEncodings,
      promptCacheHits: sum(pipelines, ({ prompts }) => prompts.hits),
      promptCacheBytes: sum(pipelines, ({ prompts }) => prompts.bytes),
      servingMs: this.#servingMs,
      training: { job: undefined, deviceMs: 0, units: 0, steps: 0 },
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

/** @returns the state that each of the work's tasks is in afterwards */
async function carryOut({ kind, tasks }: Work<Task>, residency: Residency): Promise<readonly TaskState[]> {
  const [{ pipeline }] = tasks
  switch (kind) {
    case 'load':
      await residency.load(pipeline, tasks[0].stage)
      return tasks.map(({ state }) => state)
    case 'encode': {
      const rows = await pipeline.encode(tasks.map(({ prepared }) => prepared))
      return tasks.map(({ request, prepared }, index) => {
        const noise = { kind: 'seed', seed: request.seed, index: request.seedIndex } as const
        return { phase: 'denoise', denoising: pipeline.begin(prepared, rows[index]!, request, noise) }
      })
    }
    case 'denoise': {
      const denoisings = tasks.filter((task) => isIn(task, 'denoise')).map((task) => askForEstimate(task))
      await pipeline.step(denoisings)
      return denoisings.map((denoising) =>
        denoising.step === denoising.solver.steps
          ? { phase: 'decode', denoising, part: 0, hidden: pipeline.decoderInput(denoising) }
          : { phase: 'denoise', denoising },
      )
    }
    case 'preview':
      return Promise.all(
        tasks
          .filter((task) => isIn(task, 'preview'))
          .map(async ({ request, state: { denoising } }) => {
            const preview = await pipeline.preview(denoising, request, request.previews?.maxSide ?? 0)
            return { phase: 'denoise', denoising, preview } as const
          }),
      )
    case 'decode': {
      const decoding = tasks.filter((task) => isIn(task, 'decode'))
      const part = decoding[0]?.state.part ?? 0
      const outputs = await pipeline.decodePart(
        part,
        decoding.map(({ state }) => state.hidden),
      )
      return decoding.map(({ request, state: { denoising } }, index) => {
        const hidden = outputs[index]!
        if (part + 1 < pipeline.model.decoderParts)
          return { phase: 'decode', denoising, part: part + 1, hidden }
        return { phase: 'done', denoising, pixels: pipeline.finishPixels(hidden, denoising, request) }
      })
    }
  }
}

/** The step before a preview must leave an estimate of the finished latents; no other step spends time on one. */
function askForEstimate({ request, state: { denoising } }: TaskIn<'denoise'>): Denoising {
  if (request.previews?.steps.includes(denoising.step + 1)) {
    denoising.cleanEstimate ??= new Float32Array(denoising.latents.length)
  } else delete denoising.cleanEstimate
  return denoising
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
