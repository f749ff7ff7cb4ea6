/**
 * The device's loop: schedule → run → settle.
 *
 * Tasks join and leave between two units of work. Running a unit blocks the thread, so messages from the parent (new
 * requests, cancellations) are heard between units, where the loop yields to the event loop.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { nextWork, type Work } from './batch.ts'
import type { Denoising } from './denoising.ts'
import type { Pipeline } from './pipeline.ts'
import { EngineError, type ChildMessage, type ImageRequest } from './protocol.ts'
import { createTask, imageResult, type Task, type TaskState } from './task.ts'

export class Loop {
  readonly #pipelines: ReadonlyMap<string, Pipeline>
  readonly #tell: (message: ChildMessage) => void
  readonly #tasks = new Map<string, Task>() // in order of arrival
  #arrival = Promise.withResolvers<void>()

  /** @param tell takes progress and outcomes, under the request's id */
  constructor(pipelines: readonly Pipeline[], tell: (message: ChildMessage) => void) {
    this.#pipelines = new Map(pipelines.map((pipeline) => [pipeline.info.name, pipeline]))
    this.#tell = tell
  }

  submit(request: ImageRequest): void {
    const pipeline = this.#pipelines.get(request.model)
    if (!pipeline) {
      const message = `expected one of the models ${[...this.#pipelines.keys()].join(', ')}, got ${request.model}`
      this.#tell({ type: 'failed', id: request.id, code: 'unknown_model', message })
      return
    }
    this.#tasks.set(request.id, createTask(request, pipeline, performance.now()))
    this.#arrival.resolve()
  }

  /** The task leaves before the next unit of work. Unknown ids are ignored: it may just have ended. */
  cancel(id: string): void {
    this.#tasks.delete(id)
  }

  async run(): Promise<never> {
    for (;;) {
      const work = nextWork(this.#tasks.values())
      if (work) {
        this.#announce(work)
        this.#settle(work, await run(work))
        await yieldToEvents()
      } else {
        this.#arrival = Promise.withResolvers()
        await this.#arrival.promise
      }
    }
  }

  /** Before the first unit of each task: the parent must know what a device was at that dies in it. */
  #announce({ kind, tasks }: Work): void {
    if (kind !== 'encode') return
    for (const { request } of tasks)
      this.#tell({ type: 'progress', id: request.id, progress: { phase: 'encoding' } })
  }

  /** Moves the tasks on to their next states, and tells of progress and outcomes. */
  #settle(work: Work, outcome: Outcome): void {
    const tasks: readonly Task[] = work.tasks
    for (const [index, task] of tasks.entries()) {
      const { id, steps } = task.request
      if (this.#tasks.get(id) !== task) continue // cancelled, and perhaps sent again
      task.startedMs ??= outcome.startedMs
      task.spentMs[work.kind] += outcome.tookMs
      task.computeMs += outcome.computeMs
      if (outcome.kind === 'failed') {
        this.#tasks.delete(id)
        this.#tell({ type: 'failed', id, ...describeFailure(outcome.error) })
        continue
      }
      const state = outcome.states[index]!
      task.state = state
      switch (state.phase) {
        case 'encode':
          break
        case 'denoise':
          this.#tell({
            type: 'progress',
            id,
            progress: { phase: 'denoising', step: state.denoising.step, steps },
          })
          break
        case 'decode':
          this.#tell({ type: 'progress', id, progress: { phase: 'decoding' } })
          break
        case 'done':
          this.#tasks.delete(id)
          this.#tell({ type: 'succeeded', id, result: imageResult(task, state) })
      }
    }
  }
}

type Outcome = Measured &
  (
    | { readonly kind: 'done'; readonly states: readonly TaskState[] } // one for each of the work's tasks
    | { readonly kind: 'failed'; readonly error: unknown }
  )

interface Measured {
  readonly startedMs: number
  readonly tookMs: number
  /** The part of it that was the library's. */
  readonly computeMs: number
}

async function run(work: Work): Promise<Outcome> {
  const startedMs = performance.now()
  const computedBeforeMs = computedMs(work)
  const measured = (): Measured => ({
    startedMs,
    tookMs: performance.now() - startedMs,
    computeMs: computedMs(work) - computedBeforeMs,
  })
  try {
    const states = await carryOut(work)
    return { kind: 'done', states, ...measured() }
  } catch (error) {
    return { kind: 'failed', error, ...measured() }
  }
}

function computedMs({ tasks }: Work): number {
  const pipelines = new Set(tasks.map(({ pipeline }) => pipeline))
  return [...pipelines].reduce((sum, { model }) => sum + model.computedMs, 0)
}

/** @returns the state that each of the work's tasks is in afterwards */
async function carryOut(work: Work): Promise<readonly TaskState[]> {
  switch (work.kind) {
    case 'encode':
      return Promise.all(
        work.tasks.map(
          async ({ pipeline, request }) =>
            ({ phase: 'denoise', denoising: await pipeline.begin(request) }) as const,
        ),
      )
    case 'denoise': {
      const denoisings = work.tasks.map(({ state }) => state.denoising)
      await work.pipeline.step(denoisings)
      return denoisings.map((denoising) => ({ phase: isDone(denoising) ? 'decode' : 'denoise', denoising }))
    }
    case 'decode':
      return Promise.all(
        work.tasks.map(async ({ pipeline, request, state: { denoising } }) => {
          return {
            phase: 'done',
            denoising,
            pixels: await pipeline.decodePixels(denoising, request),
          } as const
        }),
      )
  }
}

const isDone = ({ step, solver }: Denoising): boolean => step === solver.steps

function describeFailure(error: unknown): { code: EngineError['code']; message: string } {
  if (error instanceof EngineError) return { code: error.code, message: error.message }
  return { code: 'generation_failed', message: error instanceof Error ? error.message : String(error) }
}
