/** `npm run bench`: lists the benchmarks, and runs the one that is named. */
import { writeFile } from 'node:fs/promises'
import { Command, InvalidArgumentError } from 'commander'
import { overhead } from './overhead.ts'
import {
  describeMachine,
  formatReport,
  summarise,
  verdict,
  type Benchmark,
  type Machine,
  type Report,
} from './report.ts'

type Options = Readonly<Record<string, number>>

const benchmarks: readonly Benchmark<Options>[] = [overhead]

const program = new Command('npm run bench --')
  .description('Measures the service on this machine.')
  .showHelpAfterError()
for (const benchmark of benchmarks) {
  const command = program
    .command(benchmark.name)
    .description(benchmark.description)
    .option('--json <file>', 'also write everything that was measured as JSON')
  for (const [name, { description, fallback }] of Object.entries(benchmark.options)) {
    command.option(`--${name} <number>`, description, wholeNumber, fallback)
  }
  command.action(async ({ json, ...options }: { json?: string } & Options) =>
    measure(benchmark, options, json),
  )
}
// Benchmarks leave no files behind when they are interrupted: they remove them as the process exits.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
await program.parseAsync()

async function measure(
  benchmark: Benchmark<Options>,
  options: Options,
  file: string | undefined,
): Promise<void> {
  const machine = describeMachine()
  const { node, processor, cores, load } = machine
  console.log(
    `${benchmark.name} on ${cores} cores of ${processor}, Node ${node}, load ${load} before it began`,
  )
  const report = await benchmark.run(options, (message) => console.error(`… ${message}`))
  console.log(formatReport(report))
  if (file !== undefined) await writeFile(file, toJson(benchmark, { options, machine, report }))
  if (verdict(report)?.met === false) process.exitCode = 1
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
  const met = verdict(report)?.met
  return `${JSON.stringify({ benchmark: name, options, machine, ...report, figures, met }, null, 2)}\n`
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}
