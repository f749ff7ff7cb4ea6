/** What a benchmark is, what it reports, and how that is shown: a table for people, JSON for programs. */
import { availableParallelism, cpus, loadavg } from 'node:os'

export interface Benchmark<Options extends Readonly<Record<string, number>>> {
  readonly name: string
  readonly description: string
  /** Whole numbers that the command line may set. */
  readonly options: {
    readonly [K in keyof Options]: { readonly description: string; readonly fallback: number }
  }
  /** @param tell hears what is under way */
  run(options: Options, tell: (message: string) => void): Promise<Report>
}

export interface Report {
  /** What was measured and how, one sentence an item. */
  readonly method: readonly string[]
  readonly figures: readonly Figure[]
  readonly requirement?: Requirement
}

/** One quantity, measured several times. */
export interface Figure {
  readonly name: string
  readonly unit: 'ms' | '%'
  readonly values: readonly number[]
}

/** The median of a figure must not be above this. */
export interface Requirement {
  readonly figure: string
  readonly atMost: number
}

export interface Machine {
  readonly node: string
  readonly processor: string
  readonly cores: number
  /** Processes that wanted to run in the last minute, on average. */
  readonly load: number
}

export const describeMachine = (): Machine => ({
  node: process.version,
  processor: cpus()[0]?.model.trim() ?? 'unknown',
  cores: availableParallelism(),
  load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
})

export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** @throws {RangeError} when there is nothing to summarise */
export function summarise(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (index: number): number => {
    const value = sorted[index]
    if (value === undefined) throw new RangeError('a summary needs at least one value')
    return value
  }
  const last = sorted.length - 1
  const median = (at(Math.floor(last / 2)) + at(Math.ceil(last / 2))) / 2
  return { median, min: at(0), max: at(last) }
}

/** @returns undefined when the report asks for nothing */
export function verdict({
  figures,
  requirement,
}: Report): { readonly met: boolean; readonly text: string } | undefined {
  if (requirement === undefined) return undefined
  const figure = figures.find(({ name }) => name === requirement.figure)
  if (figure === undefined) throw new Error(`the report has no figure ${requirement.figure}`)
  const { median } = summarise(figure.values)
  const met = median <= requirement.atMost
  const limit = `at most ${requirement.atMost} ${figure.unit}`
  return {
    met,
    text: `${figure.name}: ${median.toFixed(2)} ${figure.unit}, wanted ${limit}: ${met ? 'met' : 'NOT MET'}`,
  }
}

/** A table with one line a figure. */
export function formatReport(report: Report): string {
  const { figures, method } = report
  const rows = figures.map(({ name, unit, values }) => {
    const { median, min, max } = summarise(values)
    const digits = unit === '%' ? 2 : 1
    return [name, ...[median, min, max].map((value) => value.toFixed(digits)), unit]
  })
  const table = [['', 'median', 'min', 'max', ''], ...rows]
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  const lines = table.map((row) =>
    row
      .map((cell, column) =>
        column === 0 || column === 4 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  )
  return [...method, '', ...lines, '', ...[verdict(report)?.text ?? []].flat()].join('\n')
}
