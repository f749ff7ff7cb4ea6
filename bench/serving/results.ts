/** Plays of a trace → what is reported: a table, and how the engines compare. */
import type { Requirement, Table } from '../report.ts'
import type { Engine, Play } from './engines.ts'
import { statisticsOf, type Statistics } from './statistics.ts'

/** What one engine made of one load, over all rounds. */
export interface Result {
  readonly engine: string
  /** Share of the one-at-a-time capacity; Infinity when all requests are there at once. */
  readonly load: number
  readonly requestsPerSecond: number
  readonly latencyMs: Statistics
  /** Latency over the request's own time alone. */
  readonly slowdown: Statistics
  /** What is known when the engine is in this process. */
  readonly device?: {
    readonly meanBatchRows: number
    /** Share of the elapsed time that was inside the library's calls. */
    readonly computedShare: number
    readonly processorMsPerRequest: number
  }
}

/** @param soloMs of each request of each play */
export function resultOf(
  { name }: Engine,
  load: number,
  plays: readonly Play[],
  soloMs: readonly (readonly number[])[],
): Result {
  const elapsedMs = sum(plays.map((play) => play.elapsedMs))
  const latencies = plays.flatMap(({ latenciesMs }) => latenciesMs)
  const devices = plays.flatMap(({ device }) => device ?? [])
  return {
    engine: name,
    load,
    requestsPerSecond: (1000 * latencies.length) / elapsedMs,
    latencyMs: statisticsOf(latencies),
    slowdown: statisticsOf(
      plays.flatMap(({ latenciesMs }, round) => latenciesMs.map((ms, index) => ms / soloMs[round]![index]!)),
    ),
    ...(devices.length > 0 && {
      device: {
        meanBatchRows: sum(devices.map(({ rows }) => rows)) / sum(devices.map(({ calls }) => calls)),
        computedShare: sum(devices.map(({ computedMs }) => computedMs)) / elapsedMs,
        processorMsPerRequest: sum(devices.map(({ processorMs }) => processorMs)) / latencies.length,
      },
    }),
  }
}

export const loadText = (load: number): string => (load === Infinity ? 'saturation' : load.toFixed(2))

export function tableOf(results: readonly Result[]): Table {
  const four = ({ mean, p50, p95, p99 }: Statistics, digits: number) =>
    [mean, p50, p95, p99].map((value) => value.toFixed(digits))
  return {
    title:
      'Latency in ms; slowdown: latency over the time alone; rows: of a denoising call; busy: share of time in the library; CPU: of all threads',
    columns: [
      'load',
      'engine',
      'req/s',
      ...['mean', 'p50', 'p95', 'p99'].map((name) => `latency ${name}`),
      ...['mean', 'p50', 'p95', 'p99'].map((name) => `slowdown ${name}`),
      'rows',
      'busy %',
      'CPU ms/req',
    ],
    rows: results.map((result) => [
      loadText(result.load),
      result.engine,
      result.requestsPerSecond.toFixed(2),
      ...four(result.latencyMs, 0),
      ...four(result.slowdown, 2),
      ...(result.device
        ? [
            result.device.meanBatchRows.toFixed(2),
            (100 * result.device.computedShare).toFixed(1),
            result.device.processorMsPerRequest.toFixed(1),
          ]
        : ['–', '–', '–']),
    ]),
  }
}

/** What the engine named first is held to against each of the others. */
export function requirementsOf(
  results: readonly Result[],
  ours: string,
  { leastThroughput }: { readonly leastThroughput: number },
): readonly Requirement[] {
  const at = (load: number) => {
    const all = results.filter((result) => result.load === load)
    const own = all.find(({ engine }) => engine === ours)
    return { own, others: all.filter((result) => result !== own) }
  }
  const busy = at(0.8)
  const slowdowns = busy.others.flatMap((other): Requirement[] => {
    if (!busy.own) return []
    const bound = { p95: 0.5, mean: 0.4 } as const
    return (['p95', 'mean'] as const).map((which) => ({
      what: `slowdown ${which} at load 0.8, against ${other.engine}`,
      value: busy.own!.slowdown[which] / other.slowdown[which],
      unit: '×',
      atMost: bound[which],
    }))
  })
  const full = at(Infinity)
  const throughput = full.others
    .filter(({ engine }) => engine === 'one at a time')
    .flatMap((other): Requirement[] => {
      if (!full.own) return []
      const value = full.own.requestsPerSecond / other.requestsPerSecond
      return [
        {
          what: `throughput at saturation, against ${other.engine}`,
          value,
          unit: '×',
          atLeast: leastThroughput,
        },
      ]
    })
  return [...slowdowns, ...throughput]
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
