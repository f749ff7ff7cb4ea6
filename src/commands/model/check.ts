/** `atelier model check DIR`: prints what a checkpoint is, what is wrong with it, and what it needs to be served. */
import type { Config } from '../../config.ts'
import {
  reportCheckpoint,
  type CheckpointReport,
  type ComponentReport,
  type WorkReport,
} from '../../engine/checkpoint-report.ts'
import { describePlan } from '../../engine/memory-plan.ts'
import { mebibytes } from '../../weights/units.ts'
import { precisionOn } from '../devices.ts'

/**
 * It is told as the first of the configured devices serves it.
 * @returns the exit status: 1 when anything is wrong with the checkpoint, or the plan does not fit the limit
 */
export async function modelCheck(
  config: Config,
  folder: string,
  { json = false }: { readonly json?: boolean },
): Promise<number> {
  const { memoryLimitMib, dataDir, devices } = config
  const { provider } = devices[0] ?? { provider: 'cpu' }
  const startedMs = performance.now()
  const report = await reportCheckpoint(folder, {
    provider,
    precision: precisionOn({ provider }, config),
    limitBytes: memoryLimitMib === 0 ? undefined : memoryLimitMib * 2 ** 20,
  })
  const elapsedMs = Math.round(performance.now() - startedMs)
  if (json) console.log(JSON.stringify({ ...report, elapsedMs }, unbounded, 2))
  else for (const line of lines(report, dataDir)) console.log(line)
  const { problems, plan } = report
  if (!json) {
    const outcome = problems.length === 0 ? 'complete' : `${problems.length} wrong`
    console.log(`${outcome}; checked in ${elapsedMs} ms`)
  }
  return problems.length === 0 && plan?.fits ? 0 : 1
}

/** JSON has no number for what has no bound. */
const unbounded = (_name: string, value: unknown): unknown => (value === Infinity ? 'Infinity' : value)

function* lines(report: CheckpointReport, dataDir: string): Generator<string> {
  const { folder, family, baseSize, version, served, components, problems, work, plan } = report
  const size = baseSize === undefined ? '' : `, base size ${baseSize} px`
  yield `${folder}: ${family}${size}${version === undefined ? '' : `, version ${version}`}`
  const { provider, precision } = served
  yield `as it is served on ${provider} in ${precision}:`
  if (provider !== 'cpu')
    yield `  (reckoned with the CPU's formulas: what ${provider} takes was not measured)`
  if (components.length > 0) {
    yield* table([
      ['', 'parameters', 'shape', 'stored as', 'files', 'served', 'private', 'mapped'],
      ...components.map(row),
    ])
    yield* components.flatMap((component) => conversion(component, precision, dataDir))
  }
  if (work) yield* workLines(work)
  if (plan) yield* describePlan(plan)
  for (const { message } of problems) yield `wrong: ${message}`
}

function row({ name, parameters, shape, storedBytes, files, ...component }: ComponentReport): string[] {
  const { quantisation, servedBytes, memory } = component
  const stored = Object.entries(storedBytes).map(([dtype, sizeBytes]) => `${dtype} ${mebibytes(sizeBytes)}`)
  return [
    name,
    `${(parameters / 1e6).toFixed(1)} M`,
    shape,
    [
      ...(quantisation ? [`int${quantisation.bits} in blocks of ${quantisation.blockSize}:`] : []),
      ...stored,
    ].join(' '),
    files.length === 1 ? '1 file' : `${files.length} shards`,
    mebibytes(servedBytes),
    mebibytes(memory.privateBytes),
    mebibytes(memory.mappedBytes),
  ]
}

const conversion = (
  { name, convertedBytes }: ComponentReport,
  precision: string,
  dataDir: string,
): readonly string[] =>
  convertedBytes === 0
    ? []
    : [
        `${name}: ${mebibytes(convertedBytes)} will be converted to ${precision} at the first start, into ${dataDir}/cache`,
      ]

function* workLines({ encode, denoise, decode }: WorkReport): Generator<string> {
  const texts = encode.map(
    ({ rows, sizeBytes }) => `${rows} prompt${rows === 1 ? '' : 's'} ${mebibytes(sizeBytes)}`,
  )
  yield `beyond the weights: encoding ${texts.join(', ')}`
  for (const { side, wholeBytes, tiledBytes } of decode) {
    const steps = denoise
      .filter((each) => each.side === side)
      .map(({ rows, sizeBytes }) => `${rows} row${rows === 1 ? '' : 's'} ${mebibytes(sizeBytes)}`)
    yield `  at ${side} px: denoising ${steps.join(', ')}; decoding whole ${mebibytes(wholeBytes)}, in strips ${mebibytes(tiledBytes)}`
  }
}

/** The first column on the left, as text; the others too: figures carry their units. */
function table(rows: readonly (readonly string[])[]): readonly string[] {
  const widths =
    rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? []
  return rows.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
