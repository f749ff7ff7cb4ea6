/** Three ways to serve a trace, on the same model and through the same calls of the pipeline. */
import { setImmediate as yieldToEvents, setTimeout as sleep } from 'node:timers/promises'
import { CostBook, type Profile } from '../../src/engine/cost-book.ts'
import type { Denoising } from '../../src/engine/denoising.ts'
import { Loop } from '../../src/engine/loop.ts'
import type { Model } from '../../src/engine/model.ts'
import { Pipeline } from '../../src/engine/pipeline.ts'
import type { ImageRequest } from '../../src/engine/pool.ts'
import type { ChildMessage } from '../../src/engine/protocol.ts'
import { Residency } from '../../src/engine/residency.ts'
import { formBatch, type BatchingLimits, type Waiting } from './dynamic-batching.ts'

export interface Engine {
  readonly name: string
  /** @param arrivalsMs when each request comes, from the start, ascending */
  play(requests: readonly ImageRequest[], arrivalsMs: readonly number[]): Promise<Play>
}

export interface Play {
  /** Of each request, from when it was to come to when its pixels were there. */
  readonly latenciesMs: readonly number[]
  /** From the first arrival to the last picture. */
  readonly elapsedMs: number
  /** What is known when the engine is in this process. */
  readonly device?: DeviceUse
}

export interface DeviceUse {
  /** Denoising calls, and the rows of all of them. */
  readonly calls: number
  readonly rows: number
  /** Time inside the library's calls. */
  readonly computedMs: number
  /** Processor time of this process: other processes on the machine change it less than the time on the clock. */
  readonly processorMs: number
}

/** Enough for any trace: the memory of texts is not what is compared. */
const cacheLimits = { promptBytes: 2 ** 30, contextBytes: 2 ** 30 }

/** Counts what the transformer is called for. */
class CountingPipeline extends Pipeline {
  calls = 0
  rows = 0

  override async step(denoisings: readonly Denoising[]): Promise<void> {
    this.calls += 1
    for (const { rows } of denoisings) this.rows += rows.length
    await super.step(denoisings)
  }
}

/** Our own: the device's loop, which decides anew before every step. */
export function continuous(model: Model, profile: Profile): Engine {
  return {
    name: 'continuous',
    async play(requests, arrivalsMs) {
      return record(model, requests, arrivalsMs, async (pipeline, arrivals, done) => {
        const residency = new Residency([pipeline], Infinity)
        await residency.load(pipeline)
        const tell = (message: ChildMessage): void => {
          if (message.type === 'failed') throw new Error(`${message.id}: ${message.message}`)
          if (message.type === 'succeeded') done(message.id)
        }
        const books = new Map([[model.description.name, new CostBook(profile)]])
        const limits = { maxRowTokens: Infinity, maxPrompts: Infinity, maxDecodePixels: Infinity }
        const loop = new Loop({ device: 'cpu', residency, books, limits, tell })
        arrivals((request) => loop.submit(request))
        return loop.run()
      })
    },
  }
}

/** Whole requests of one size and number of steps together. */
export function requestLevel(model: Model, name: string, limits: BatchingLimits): Engine {
  return {
    name,
    async play(requests, arrivalsMs) {
      return record(model, requests, arrivalsMs, async (pipeline, arrivals, done) => {
        let waiting: readonly Waiting<ImageRequest>[] = []
        let arrival = Promise.withResolvers<void>()
        arrivals((request) => {
          waiting = [...waiting, { request, arrivedMs: performance.now() }]
          arrival.resolve()
        })
        for (;;) {
          arrival = Promise.withResolvers()
          const decision = formBatch(waiting, sizeAndSteps, performance.now(), limits)
          switch (decision.kind) {
            case 'run': {
              const { batch } = decision
              waiting = waiting.filter((one) => !batch.includes(one))
              await runToEnd(
                pipeline,
                batch.map(({ request }) => request),
              )
              for (const { request } of batch) done(request.id)
              await yieldToEvents()
              break
            }
            case 'wait': {
              const elapsed = sleep(Math.max(0, decision.untilMs - performance.now()))
              await Promise.race([arrival.promise, elapsed])
              break
            }
            case 'idle':
              await arrival.promise
          }
        }
      })
    },
  }
}

/** First come, first served, and nobody shares a call. */
export const oneAtATime = (model: Model): Engine =>
  requestLevel(model, 'one at a time', { maxBatch: 1, maxDelayMs: 0 })

/** What requests must agree on to be run to the end together. */
export const sizeAndSteps = ({ width, height, steps }: ImageRequest): string =>
  `${width} × ${height}, ${steps} steps`

async function runToEnd(pipeline: Pipeline, requests: readonly ImageRequest[]): Promise<void> {
  const prepared = requests.map((request) => pipeline.prepare(request))
  const rows = await pipeline.encode(prepared)
  const denoisings = requests.map((request, index) => {
    const noise = { kind: 'seed', seed: request.seed, index: request.seedIndex } as const
    return pipeline.begin(prepared[index]!, rows[index]!, request, noise)
  })
  const steps = denoisings[0]?.solver.steps ?? 0
  for (let step = 0; step < steps; step++) {
    await yieldToEvents() // so that arrivals are heard
    await pipeline.step(denoisings)
  }
  let hidden = denoisings.map((denoising) => pipeline.decoderInput(denoising))
  for (let part = 0; part < pipeline.model.decoderParts; part++) {
    await yieldToEvents()
    hidden = [...(await pipeline.decodePart(part, hidden))]
  }
  for (const [index, denoising] of denoisings.entries()) pipeline.finishPixels(hidden[index]!, denoising)
}

type Serve = (
  pipeline: Pipeline,
  /** Hands requests over as they come, from now on. */
  arrivals: (submit: (request: ImageRequest) => void) => void,
  done: (id: string) => void,
) => Promise<never>

/** Plays the trace to a server with a pipeline of its own, so that no engine finds what another one kept. */
async function record(
  model: Model,
  requests: readonly ImageRequest[],
  arrivalsMs: readonly number[],
  serve: Serve,
): Promise<Play> {
  const pipeline = new CountingPipeline(model, cacheLimits)
  await pipeline.load()
  const computedBeforeMs = model.computedMs
  const usedBefore = process.cpuUsage()
  const ended = Promise.withResolvers<void>()
  const doneMs = new Map<string, number>()
  let startMs = NaN
  const arrivals = (submit: (request: ImageRequest) => void): void => {
    startMs = performance.now()
    arrive(requests, arrivalsMs, startMs, submit).catch(ended.reject)
  }
  const done = (id: string): void => {
    doneMs.set(id, performance.now())
    if (doneMs.size === requests.length) ended.resolve()
  }
  await Promise.race([ended.promise, serve(pipeline, arrivals, done)])
  const { calls, rows } = pipeline
  const used = process.cpuUsage(usedBefore)
  return {
    latenciesMs: requests.map(({ id }, index) => doneMs.get(id)! - startMs - arrivalsMs[index]!),
    elapsedMs: Math.max(...doneMs.values()) - startMs - Math.min(...arrivalsMs),
    device: {
      calls,
      rows,
      computedMs: model.computedMs - computedBeforeMs,
      processorMs: (used.user + used.system) / 1000,
    },
  }
}

/** Open loop: when a request comes does not depend on what became of the others. */
export async function arrive(
  requests: readonly ImageRequest[],
  arrivalsMs: readonly number[],
  startMs: number,
  submit: (request: ImageRequest) => void,
): Promise<void> {
  for (const [index, request] of requests.entries()) {
    const waitMs = startMs + arrivalsMs[index]! - performance.now()
    if (waitMs > 0) await sleep(waitMs)
    submit(request)
  }
}
