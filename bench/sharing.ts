/** What a job on the same device costs those who are served, and how much of the time that they leave it gets. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { bucketsFor } from '../src/diffusion/buckets.ts'
import { measureProfile } from '../src/engine/cost-book.ts'
import { Model } from '../src/engine/model.ts'
import { writeSyntheticCheckpoint } from '../src/models/synthetic-checkpoint.ts'
import type { TrainingJob } from '../src/training/job.ts'
import type { Benchmark, Report, Requirement, Table } from './report.ts'
import { servingCheckpoint } from './serving/checkpoint.ts'
import { BenchDevice, type Segment } from './serving/device.ts'
import { endlessJob } from './serving/job.ts'
import { mean, statisticsOf, type Statistics } from './serving/statistics.ts'
import { arrivalsMs, makeTrace } from './serving/trace.ts'
import { temporaryFolder } from './temporary-folder.ts'

type Options = Readonly<
  Record<'requests' | 'rounds' | 'seed' | 'base' | 'blocks' | 'threads' | 'load' | 'microStep', number>
>

/** Bounds: latency with the job over latency without, and the job's share of what serving leaves. */
const [mostSlower, leastShare] = [1.2, 0.85]

export const sharing: Benchmark<Options> = {
  name: 'sharing',
  description: 'serving while a job trains on the same device, against serving alone',
  options: {
    requests: { description: 'requests of a trace', fallback: 70 },
    rounds: { description: 'traces; each is played with the job and without', fallback: 4 },
    seed: { description: 'decides the traces', fallback: 1 },
    base: { description: "the model's base size in pixels: 256 or 512", fallback: 256 },
    blocks: { description: "the model's transformer blocks", fallback: 8 },
    threads: { description: "the device's threads; 0 takes one per core", fallback: 0 },
    load: { description: 'rate of arrivals in percent of what one at a time could serve', fallback: 50 },
    microStep: { description: "longest of the job's micro-steps in milliseconds", fallback: 20 },
  },
  async run(options, tell) {
    const folder = temporaryFolder()
    tell('writing a checkpoint of random weights, and pictures')
    const base = join(folder, 'serving')
    await writeSyntheticCheckpoint(base, servingCheckpoint(options.base, options.blocks))
    const job = await endlessJob({
      folder: join(folder, 'training'),
      base,
      baseSize: options.base,
      maxMicroStepMs: options.microStep,
    })
    const model = await Model.open('serving', base, {
      provider: 'cpu',
      threads: options.threads,
      cacheDir: join(folder, 'cache'),
      lowering: 'serve',
      onNote: tell,
    })
    const startedMs = performance.now()
    await model.load()
    tell('measuring what calls cost')
    const profile = await measureProfile(model, performance.now() - startedMs)
    const device = await BenchDevice.start(model, profile, options.threads)
    return compare({ device, job }, options, tell)
  },
}

interface Places {
  readonly device: BenchDevice
  readonly job: TrainingJob
}

async function compare(
  { device, job }: Places,
  options: Options,
  tell: (message: string) => void,
): Promise<Report> {
  const { requests, rounds, seed, base, load } = options
  const sizes = bucketsFor(base)
  const trace = (round: number, count = requests) =>
    makeTrace({ seed: seed + round, requests: count, model: 'serving', sizes })

  tell('each request alone, one after another')
  const solo = trace(rounds).requests
  const soloMs: number[] = []
  for (const request of solo) soloMs.push((await device.play([request], [0])).elapsedMs)
  const meanSoloMs = mean(soloMs)
  tell(`a request alone takes ${meanSoloMs.toFixed(0)} ms on average`)

  const segments = { alone: [] as Segment[], beside: [] as Segment[] }
  for (let round = 0; round < rounds; round++) {
    const made = trace(round)
    const arrivals = arrivalsMs(made, load / 100 / meanSoloMs)
    // Whoever goes first in one round goes last in the next.
    const turns = round % 2 === 0 ? (['alone', 'beside'] as const) : (['beside', 'alone'] as const)
    for (const turn of turns) {
      if (turn === 'beside') await device.beginJob(job)
      const played = made.requests.map((request) => ({ ...request, id: `${turn} ${request.id}` }))
      const segment = await device.play(played, arrivals)
      if (turn === 'beside') await device.endJob(job)
      segments[turn].push(segment)
      const { p50, p95 } = statisticsOf(segment.latenciesMs)
      tell(
        `${round + 1}, ${turn}: latency p50 ${p50.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms; job ${percent(jobShare([segment]))} of what serving left`,
      )
    }
  }
  const latencies = (of: readonly Segment[]) => statisticsOf(of.flatMap(({ latenciesMs }) => latenciesMs))
  const [alone, beside] = [latencies(segments.alone), latencies(segments.beside)]
  return {
    method: methodOf(options, meanSoloMs),
    figures: [],
    tables: [latencyTable({ alone, beside }), jobTable(segments.beside, options)],
    requirements: requirementsOf({ alone, beside }, segments.beside),
  }
}

/** Of the device time that requests left. */
function jobShare(segments: readonly Segment[]): number {
  const left = sum(segments, ({ elapsedMs, servingMs }) => elapsedMs - servingMs)
  return sum(segments, ({ trainingMs }) => trainingMs) / left
}

type Latencies = Readonly<Record<'alone' | 'beside', Statistics>>

function requirementsOf({ alone, beside }: Latencies, segments: readonly Segment[]): readonly Requirement[] {
  return [
    {
      what: 'latency p95 with the job, against without',
      value: beside.p95 / alone.p95,
      unit: '×',
      atMost: mostSlower,
    },
    {
      what: "the job's share of the device time that serving leaves",
      value: 100 * jobShare(segments),
      unit: '%',
      atLeast: 100 * leastShare,
    },
  ]
}

function latencyTable({ alone, beside }: Latencies): Table {
  const columns = ['mean', 'p50', 'p95', 'p99'] as const
  return {
    title: 'Latency in ms',
    columns: ['', ...columns],
    rows: [
      ['serving alone', ...columns.map((column) => alone[column].toFixed(0))],
      ['with the job', ...columns.map((column) => beside[column].toFixed(0))],
      ['ratio', ...columns.map((column) => (beside[column] / alone[column]).toFixed(3))],
    ],
  }
}

function jobTable(segments: readonly Segment[], { rounds }: Options): Table {
  const elapsedMs = sum(segments, (segment) => segment.elapsedMs)
  const shareOf = (of: (segment: Segment) => number) => percent(sum(segments, of) / elapsedMs)
  return {
    title: `The device during the ${rounds} traces with the job`,
    columns: [
      'seconds',
      'serving',
      'training',
      'the job, of what serving left',
      "the job's units, ms",
      'steps of 16 pictures',
    ],
    rows: [
      [
        (elapsedMs / 1000).toFixed(1),
        shareOf(({ servingMs }) => servingMs),
        shareOf(({ trainingMs }) => trainingMs),
        percent(jobShare(segments)),
        (sum(segments, ({ trainingMs }) => trainingMs) / sum(segments, ({ units }) => units)).toFixed(1),
        sum(segments, ({ steps }) => steps),
      ],
    ],
  }
}

function methodOf(options: Options, meanSoloMs: number): readonly string[] {
  const { requests, rounds, seed, base, blocks, threads, load, microStep } = options
  return [
    `${rounds} traces of ${requests} requests from seed ${seed}, as in the benchmark 'serving', each played to the device's loop twice: alone, and while a job trains in it; who goes first takes turns.`,
    `Load ${load} %: the rate of arrivals × ${meanSoloMs.toFixed(1)} ms, which a request took alone on average.`,
    `Model: random weights, ${blocks} narrow blocks, base size ${base}; ${threads || availableParallelism()} threads. The job trains all of its weights on pictures of that size, in micro-steps of at most ${microStep} ms; its first step is taken before a trace begins.`,
    'Latency counts from the arrival in the trace. What serving leaves: the time from the first arrival to the last picture without the units of work of requests.',
  ]
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((total, item) => total + of(item), 0)
