/** What a benchmark is, what it reports, and how that is shown: a table for people, JSON for programs. */
import { availableParallelism, cpus, loadavg } from 'node:os'

export type OptionValue = number | boolean | string

export interface Benchmark<Options extends Readonly<Record<string, OptionValue>>> {
  readonly name: string
  readonly description: string
  /** What the command line may set: whole numbers, one of several names, and flags, which are off unless they are given. */
  readonly options: { readonly [K in keyof Options]: OptionDefinition<Options[K]> }
  /** @param tell hears what is under way */
  run(options: Options, tell: (message: string) => void): Promise<Report>
}

type OptionDefinition<Value extends OptionValue> = Value extends boolean
  ? { readonly description: string; readonly fallback: false }
  : Value extends number
    ? { readonly description: string; readonly fallback: number }
    : { readonly description: string; readonly fallback: Value; readonly choices: readonly string[] }

export interface Report {
  /** What was measured and how, one sentence an item. */
  readonly method: readonly string[]
  readonly figures: readonly Figure[]
  readonly tables?: readonly Table[]
  /** An SVG picture of the figures. */
  readonly plot?: string
  readonly requirements?: readonly Requirement[]
}

/** One quantity, measured several times. */
export interface Figure {
  readonly name: string
  readonly unit: 'ms' | '%'
  readonly values: readonly number[]
}

/** Quantities by circumstance: one line each, under one heading a quantity. */
export interface Table {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly (string | number)[])[]
}

/** A quantity that was measured, and the bound that it must keep. */
export type Requirement = {
  readonly what: string
  readonly value: number
  readonly unit: string
} & ({ readonly atMost: number } | { readonly atLeast: number })

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

export const isMet = (requirement: Requirement): boolean =>
  'atMost' in requirement ? requirement.value <= requirement.atMost : requirement.value >= requirement.atLeast

export function formatRequirement(requirement: Requirement): string {
  const { what, value, unit } = requirement
  const bound = 'atMost' in requirement ? `at most ${requirement.atMost}` : `at least ${requirement.atLeast}`
  return `${what}: ${value.toFixed(2)} ${unit}, wanted ${bound} ${unit}: ${isMet(requirement) ? 'met' : 'NOT MET'}`
}

/** The method, a table with one line a figure, the other tables, and how the requirements were met. */
export function formatReport({ method, figures, tables = [], requirements = [] }: Report): string {
  const own: Table = {
    title: '',
    columns: ['', 'median', 'min', 'max', ''],
    rows: figures.map(({ name, unit, values }) => {
      const { median, min, max } = summarise(values)
      const digits = unit === '%' ? 2 : 1
      return [name, ...[median, min, max].map((value) => value.toFixed(digits)), unit]
    }),
  }
  const parts = [
    method,
    ...(figures.length > 0 ? [formatTable(own)] : []),
    ...tables.map(formatTable),
    requirements.map(formatRequirement),
  ]
  return parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')
}

/** Lines; text is set to the left and numbers to the right. */
function formatTable({ title, columns, rows }: Table): readonly string[] {
  const cells = [columns, ...rows.map((row) => row.map(String))]
  const isText = columns.map((_, column) =>
    rows.every((row) => typeof row[column] === 'string' && !isNumeric(row[column])),
  )
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)))
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (isText[column] ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  )
  return title === '' ? lines : [title, ...lines]
}

const isNumeric = (text: string): boolean => text !== '' && Number.isFinite(Number(text))
