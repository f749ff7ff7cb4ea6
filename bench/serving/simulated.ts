/**
 * The same three engines on a simulated clock and a device that takes just what its costs say: what the policy alone is worth,
 * free of whatever else runs on the machine, and of what it costs to run.
 */
import { expectedMs, nextWork, type Candidate, type Work, type WorkKind } from '../../src/engine/batch.ts'
import { callMs, remainingMs, type Costs, type Need } from '../../src/engine/costs.ts'
import type { ImageRequest } from '../../src/engine/pool.ts'
import { formBatch, type BatchingLimits, type Waiting } from './dynamic-batching.ts'
import { sizeAndSteps, type DeviceUse, type Engine, type Play } from './engines.ts'

/** Pixels along one side of a latent, and of a token. */
const [latentScale, tokenScale] = [8, 16]

/** @param request at a size that is one of the model's buckets */
export function needOf({ model, width, height, steps, guidanceScale }: ImageRequest): Need {
  return {
    model,
    isLoaded: true,
    prompts: 1,
    rows: guidanceScale > 1 ? 2 : 1,
    tokens: (width * height) / tokenScale ** 2,
    stepsLeft: steps,
    latentPixels: (width * height) / latentScale ** 2,
    partsDone: 0,
    previewPixels: 0,
  }
}

class SimulatedTask implements Candidate {
  readonly id: string
  readonly arrivedMs: number
  readonly priority = 'normal'
  readonly need: { -readonly [K in keyof Need]: Need[K] }

  constructor(request: ImageRequest, arrivedMs: number) {
    this.id = request.id
    this.arrivedMs = arrivedMs
    this.need = { ...needOf(request) }
  }

  get next(): WorkKind {
    if (this.need.prompts > 0) return 'encode'
    return this.need.stepsLeft > 0 ? 'denoise' : 'decode'
  }

  advance(kind: WorkKind): void {
    if (kind === 'encode') this.need.prompts = 0
    else if (kind === 'denoise') this.need.stepsLeft -= 1
    else this.need.partsDone += 1
  }
}

export function simulatedContinuous(costs: Costs): Engine {
  return {
    name: 'continuous',
    play: async (requests, arrivalsMs) => {
      const present = new Set<SimulatedTask>()
      return simulate(requests, arrivalsMs, (nowMs, { arrived, done, use }) => {
        for (const { request, arrivedMs } of arrived()) present.add(new SimulatedTask(request, arrivedMs))
        const work: Work<SimulatedTask> | undefined = nextWork(present, () => costs, nowMs, {
          maxRowTokens: Infinity,
          maxPrompts: Infinity,
          maxDecodePixels: Infinity,
        })
        if (!work) return Infinity
        const tookMs = expectedMs(work, costs)
        const rows = work.tasks.reduce((sum, { need }) => sum + need.rows, 0)
        use(tookMs, work.kind === 'denoise' ? { calls: 1, rows } : { calls: 0, rows: 0 })
        for (const task of work.tasks) {
          task.advance(work.kind)
          if (task.need.partsDone < costs.decode.length) continue
          present.delete(task)
          done(task.id, nowMs + tookMs)
        }
        return nowMs + tookMs
      })
    },
  }
}

export function simulatedRequestLevel(costs: Costs, name: string, limits: BatchingLimits): Engine {
  return {
    name,
    play: async (requests, arrivalsMs) => {
      let waiting: readonly Waiting<ImageRequest>[] = []
      return simulate(requests, arrivalsMs, (nowMs, { arrived, done, use }) => {
        waiting = [...waiting, ...arrived()]
        const decision = formBatch(waiting, sizeAndSteps, nowMs, limits)
        if (decision.kind === 'idle') return Infinity
        if (decision.kind === 'wait') return decision.untilMs
        const { batch } = decision
        waiting = waiting.filter((one) => !batch.includes(one))
        const needs = batch.map(({ request }) => needOf(request))
        const [{ stepsLeft, latentPixels }] = needs as [Need, ...Need[]]
        const rowTokens = needs.reduce((sum, { rows, tokens }) => sum + rows * tokens, 0)
        const tookMs =
          callMs(costs.encode, batch.length) +
          stepsLeft * callMs(costs.step, rowTokens) +
          costs.decode.reduce((sum, line) => sum + callMs(line, latentPixels * batch.length), 0)
        const rows = needs.reduce((sum, need) => sum + need.rows, 0)
        use(tookMs, { calls: stepsLeft, rows: rows * stepsLeft })
        for (const { request } of batch) done(request.id, nowMs + tookMs)
        return nowMs + tookMs
      })
    },
  }
}

export const simulatedOneAtATime = (costs: Costs): Engine =>
  simulatedRequestLevel(costs, 'one at a time', { maxBatch: 1, maxDelayMs: 0 })

/** Device time that a request takes alone. */
export const simulatedSoloMs = (costs: Costs, request: ImageRequest): number =>
  remainingMs(costs, needOf(request))

interface Simulation {
  /** What came since this was asked last. */
  readonly arrived: () => readonly Waiting<ImageRequest>[]
  readonly done: (id: string, atMs: number) => void
  readonly use: (tookMs: number, denoising: Pick<DeviceUse, 'calls' | 'rows'>) => void
}

/** @param decide what happens at a time, and when to ask next at the latest: at once when something new arrives */
function simulate(
  requests: readonly ImageRequest[],
  arrivalsMs: readonly number[],
  decide: (nowMs: number, simulation: Simulation) => number,
): Play {
  const doneMs = new Map<string, number>()
  const use = { calls: 0, rows: 0, computedMs: 0, processorMs: 0 }
  let [nowMs, next] = [0, 0]
  let busyUntilMs = 0
  const simulation: Simulation = {
    arrived: () => {
      const from = next
      while (next < requests.length && arrivalsMs[next]! <= nowMs) next += 1
      return requests
        .slice(from, next)
        .map((request, index) => ({ request, arrivedMs: arrivalsMs[from + index]! }))
    },
    done: (id, atMs) => doneMs.set(id, atMs),
    use: (tookMs, { calls, rows }) => {
      busyUntilMs = nowMs + tookMs
      use.calls += calls
      use.rows += rows
      use.computedMs += tookMs
      use.processorMs += tookMs
    },
  }
  while (doneMs.size < requests.length) {
    const againMs = decide(nowMs, simulation)
    nowMs = busyUntilMs > nowMs ? busyUntilMs : Math.min(againMs, arrivalsMs[next] ?? Infinity)
  }
  return {
    latenciesMs: requests.map(({ id }, index) => doneMs.get(id)! - arrivalsMs[index]!),
    elapsedMs: Math.max(...doneMs.values()) - Math.min(...arrivalsMs),
    device: use,
  }
}
