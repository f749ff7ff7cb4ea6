/** How well many users are served: continuous batching at every step against two ways to serve that know whole requests only. */
import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { CostBook, measureProfile } from '../src/engine/cost-book.ts'
import { Model } from '../src/engine/model.ts'
import { bucketsFor } from '../src/diffusion/buckets.ts'
import { writeSyntheticCheckpoint } from '../src/models/synthetic-checkpoint.ts'
import type { Benchmark, Report } from './report.ts'
import { startService } from './service.ts'
import { servingCheckpoint } from './serving/checkpoint.ts'
import { continuous, oneAtATime, requestLevel, type Engine, type Play } from './serving/engines.ts'
import { oneAtATimeOverHttp, overHttp } from './serving/http.ts'
import { plotOf } from './serving/plot.ts'
import { loadText, requirementsOf, resultOf, tableOf, type Result } from './serving/results.ts'
import { simulatedContinuous, simulatedOneAtATime, simulatedRequestLevel } from './serving/simulated.ts'
import { mean, medianByGroup } from './serving/statistics.ts'
import { arrivalsMs, guidedShare, makeTrace, stepCounts, type Trace } from './serving/trace.ts'
import { temporaryFolder } from './temporary-folder.ts'

type Numbers = 'requests' | 'rounds' | 'seed' | 'base' | 'blocks' | 'threads' | 'delay' | 'batch'
type Options = Readonly<Record<Numbers, number> & Record<'http' | 'simulate' | 'saturation', boolean>>

const loads = [0.5, 0.8, 0.95, Infinity] as const

/** At saturation so many times the requests are there at once: while the last of them run, no queue is left to batch from. */
const saturationDepth = 2

export const serving: Benchmark<Options> = {
  name: 'serving',
  description:
    'latency, slowdown and throughput under Poisson arrivals, against request-level batching and one at a time',
  options: {
    requests: { description: 'requests of a trace', fallback: 70 },
    rounds: { description: 'traces; the engines take turns on each', fallback: 3 },
    seed: { description: 'decides the traces', fallback: 1 },
    base: { description: "the model's base size in pixels: 256 or 512", fallback: 256 },
    blocks: { description: "the model's transformer blocks", fallback: 8 },
    threads: { description: "the device's threads; 0 takes one per core", fallback: 0 },
    delay: {
      description: 'request-level batching: most milliseconds that a batch waits for more',
      fallback: 50,
    },
    batch: { description: 'request-level batching: most requests of a batch', fallback: 8 },
    http: { description: 'over HTTP, with the whole service', fallback: false },
    simulate: {
      description:
        'measure only what calls cost; then a simulated clock, which nothing else on the machine disturbs',
      fallback: false,
    },
    saturation: { description: 'only with all requests there at once', fallback: false },
  },
  async run(options, tell) {
    const folder = temporaryFolder()
    tell('writing a checkpoint of random weights')
    const model = join(folder, 'serving')
    await writeSyntheticCheckpoint(model, servingCheckpoint(options.base, options.blocks))
    const dataDir = join(folder, 'data')
    await mkdir(dataDir)
    return options.http
      ? serveOverHttp(options, { model, dataDir }, tell)
      : serveHere(options, { model, dataDir }, tell)
  },
}

interface Places {
  readonly model: string
  readonly dataDir: string
}

type Tell = (message: string) => void

async function serveHere(options: Options, places: Places, tell: Tell): Promise<Report> {
  const { threads, delay, batch, simulate } = options
  const model = await Model.open('serving', places.model, {
    provider: 'cpu',
    threads,
    cacheDir: places.dataDir,
    lowering: 'serve',
    onNote: tell,
  })
  const startedMs = performance.now()
  await model.load()
  tell('measuring what calls cost')
  const profile = await measureProfile(model, performance.now() - startedMs)
  const [name, limits] = ['request-level batching', { maxBatch: batch, maxDelayMs: delay }] as const
  const { costs } = new CostBook(profile)
  const alone = simulate ? simulatedOneAtATime(costs) : oneAtATime(model)
  const engines = simulate
    ? [simulatedContinuous(costs), simulatedRequestLevel(costs, name, limits), alone]
    : [continuous(model, profile), requestLevel(model, name, limits), alone]
  const report = await compare({ engines, alone, ours: 'continuous' }, options, tell)
  await model.unload()
  return report
}

async function serveOverHttp(options: Options, places: Places, tell: Tell): Promise<Report> {
  tell('starting the service')
  await using service = await startService({ ...places, threads: options.threads })
  const alone = oneAtATimeOverHttp(service.address)
  const engines = [overHttp(service.address), alone]
  return await compare({ engines, alone, ours: 'continuous' }, options, tell)
}

interface Contest {
  readonly engines: readonly Engine[]
  /** One of them: it tells how long each request takes alone. */
  readonly alone: Engine
  readonly ours: string
}

async function compare({ engines, alone, ours }: Contest, options: Options, tell: Tell): Promise<Report> {
  const { requests, rounds, seed, base, saturation, http } = options
  const sizes = bucketsFor(base)
  const traces = Array.from({ length: rounds }, (_, round) =>
    makeTrace({ seed: seed + round, requests: saturationDepth * requests, model: 'serving', sizes }),
  )
  tell(`${rounds} × ${saturationDepth * requests} requests, each alone`)
  await playSolo(
    alone,
    makeTrace({ seed: seed - 1, requests: Math.min(requests, 12), model: 'serving', sizes }),
  )
  const measuredMs: (readonly number[])[] = []
  for (const trace of traces) measuredMs.push(await playSolo(alone, trace))
  const soloMs = smooth(traces, measuredMs)
  const meanSoloMs = mean(measuredMs.flat())
  tell(
    `a request alone takes ${meanSoloMs.toFixed(0)} ms on average: ${(1000 / meanSoloMs).toFixed(2)} requests/s`,
  )

  const results: Result[] = []
  for (const load of saturation ? [Infinity] : loads) {
    const plays = new Map<Engine, Play[]>(engines.map((engine) => [engine, []]))
    for (const [round, trace] of traces.entries()) {
      const count = load === Infinity ? trace.requests.length : requests
      const played = trace.requests.slice(0, count)
      const arrivals = arrivalsMs(trace, load / meanSoloMs).slice(0, count)
      // Whoever goes first in one round goes last in the next.
      const turns = round % 2 === 0 ? engines : engines.toReversed()
      for (const engine of turns) plays.get(engine)!.push(await engine.play(played, arrivals))
    }
    for (const engine of engines) {
      const result = resultOf(engine, load, plays.get(engine)!, soloMs)
      results.push(result)
      const { slowdown, requestsPerSecond } = result
      tell(
        `${loadText(load)}, ${engine.name}: ${requestsPerSecond.toFixed(2)} requests/s, slowdown ${slowdown.mean.toFixed(2)} on average, p95 ${slowdown.p95.toFixed(2)}`,
      )
    }
  }
  const tokens = Math.max(...sizes.map(({ width, height }) => (width * height) / 16 ** 2))
  return {
    method: methodOf(options, tokens, meanSoloMs),
    figures: [],
    tables: [tableOf(results)],
    // Over HTTP they would hold the database and the encoding of pictures to what batching can do.
    requirements: http ? [] : requirementsOf(results, ours, { leastThroughput: tokens <= 256 ? 1.05 : 0.98 }),
    plot: plotOf(
      results,
      `${rounds} × ${requests} requests of ${stepCounts.join(', ')} steps, up to ${tokens} tokens, ${meanSoloMs.toFixed(0)} ms alone`,
    ),
  }
}

/** All at once, served in order: from one end to the next is what a request takes alone. */
async function playSolo(alone: Engine, trace: Trace): Promise<readonly number[]> {
  const { latenciesMs } = await alone.play(trace.requests, arrivalsMs(trace, Infinity))
  return latenciesMs.map((ms, index) => ms - (latenciesMs[index - 1] ?? 0))
}

/** Requests of the same number of steps and rows take the same time, but for what the machine does beside. */
function smooth(traces: readonly Trace[], measuredMs: readonly (readonly number[])[]): readonly number[][] {
  const requests = traces.flatMap((trace) => trace.requests)
  const smoothed = medianByGroup(measuredMs.flat(), (position) => {
    const { steps, guidanceScale } = requests[position]!
    return `${steps} steps, guidance ${guidanceScale}`
  })
  let done = 0
  return traces.map((trace) => smoothed.slice(done, (done += trace.requests.length)))
}

function methodOf(options: Options, tokens: number, meanSoloMs: number): readonly string[] {
  const { requests, rounds, seed, base, blocks, threads, delay, batch, http, simulate } = options
  const requestLevelText = `Request-level batching: same size and steps, at most ${batch} requests, at most ${delay} ms for more to come, to the end together.`
  return [
    `${rounds} traces of ${requests} requests (at saturation ${saturationDepth * requests}) from seed ${seed}: Poisson arrivals whatever becomes of them; ${stepCounts.join(', ')} steps, ${bucketsFor(base).length} aspect ratios, guidance on for ${100 * guidedShare} %, each prompt a new one.`,
    `Model: random weights, ${blocks} narrow blocks, base size ${base}, up to ${tokens} tokens; ${threads || availableParallelism()} threads.`,
    http
      ? 'Each request from before its POST to the last byte of its WebP, over HTTP; one at a time: the same server, the client holds requests back until the one before has ended.'
      : `${simulate ? 'All engines on a simulated clock: a call takes what a straight line through measured calls says' : 'All engines in this process, in turn, through the same calls'}. ${requestLevelText}`,
    `Load: the rate of arrivals × ${meanSoloMs.toFixed(1)} ms, which a request took alone on average, measured one after another before the rest.`,
    'Latency counts from the arrival in the trace. Slowdown: over the median time alone of the requests with the same steps and guidance.',
  ]
}
