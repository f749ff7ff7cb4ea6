/** `npm run bench`: lists the benchmarks, and runs the one that is named. */
import { writeFile } from 'node:fs/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import { api } from './api.ts'
import { loop } from './loop.ts'
import { model } from './model.ts'
import { overhead } from './overhead.ts'
import {
  describeMachine,
  formatReport,
  isMet,
  summarise,
  type Benchmark,
  type Machine,
  type OptionValue,
  type Report,
} from './report.ts'
import { serving } from './serving.ts'
import { sharing } from './sharing.ts'
import { training } from './training.ts'
import { trainingData } from './training-data.ts'
import { trainingLora } from './training-lora.ts'

type Options = Readonly<Record<string, OptionValue>>
interface Files {
  readonly json?: string
  readonly svg?: string
}

const benchmarks: readonly Benchmark<Options>[] = [
  overhead,
  api,
  loop,
  serving,
  sharing,
  model,
  training,
  trainingData,
  trainingLora,
]

const program = new Command('npm run bench --')
  .description('Measures the service on this machine.')
  .showHelpAfterError()
for (const benchmark of benchmarks) {
  const command = program
    .command(benchmark.name)
    .description(benchmark.description)
    .option('--json <file>', 'also write everything that was measured as JSON')
    .option('--svg <file>', 'also write a plot, where the benchmark has one')
  for (const [name, option] of Object.entries(benchmark.options))
    command.addOption(commandOption(name, option))
  command.action(async ({ json, svg, ...options }: Files & Options) =>
    measure(benchmark, options, { ...(json && { json }), ...(svg && { svg }) }),
  )
}
// Benchmarks leave no files behind when they are interrupted: they remove them as the process exits.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
await program.parseAsync()

async function measure(benchmark: Benchmark<Options>, options: Options, { json, svg }: Files): Promise<void> {
  const machine = describeMachine()
  const { node, processor, cores, load } = machine
  console.log(
    `${benchmark.name} on ${cores} cores of ${processor}, Node ${node}, load ${load} before it began`,
  )
  const report = await benchmark.run(options, (message) => console.error(`… ${message}`))
  console.log(formatReport(report))
  if (json !== undefined) await writeFile(json, toJson(benchmark, { options, machine, report }))
  if (svg !== undefined) {
    if (report.plot === undefined) throw new Error(`${benchmark.name} draws no plot`)
    await writeFile(svg, report.plot)
  }
  if (report.requirements?.some((requirement) => !isMet(requirement))) process.exitCode = 1
}

function toJson(
  { name }: Benchmark<Options>,
  {
    options,
    machine,
    report,
  }: { readonly options: Options; readonly machine: Machine; readonly report: Report },
): string {
  const figures = report.figures.map((figure) => ({ ...figure, ...summarise(figure.values) }))
  const requirements = report.requirements?.map((one) => ({ ...one, met: isMet(one) }))
  const { plot: _, ...rest } = report
  return `${JSON.stringify({ benchmark: name, options, machine, ...rest, figures, requirements }, null, 2)}\n`
}

/** camelCase in our code, kebab-case on the command line. */
function commandOption(name: string, option: Benchmark<Options>['options'][string]): Option {
  const { description, fallback } = option
  const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
  if ('choices' in option)
    return new Option(`${flag} <name>`, description).choices(option.choices).default(fallback)
  if (typeof fallback === 'boolean') return new Option(flag, description).default(fallback)
  return new Option(`${flag} <number>`, description).argParser(wholeNumber).default(fallback)
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}
