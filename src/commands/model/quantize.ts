/** `atelier model quantize DIR OUT`: the same checkpoint with matrices of 4 or 8 bits, and what that cost. */
import { join } from 'node:path'
import type { Config } from '../../config.ts'
import { reportQuantisation, type QuantisationReport } from '../../engine/quantisation-report.ts'
import {
  writeQuantisedCheckpoint,
  type QuantisationPlan,
  type QuantisedLayerCost,
} from '../../models/quantised-checkpoint.ts'
import { openCheckpoint, type Checkpoint } from '../../weights/checkpoint.ts'
import type { BlockFormat } from '../../weights/quantisation.ts'
import { mebibytes } from '../../weights/units.ts'
import { untilInterrupted } from './until-interrupted.ts'

type IntegerType = 'int4' | 'int8'

export interface QuantizeOptions {
  readonly textEncoder?: IntegerType
  readonly transformer?: IntegerType
  readonly block: number
  /** Whether to run both checkpoints; small ones are run unless this says no. */
  readonly report?: boolean
}

/** The largest checkpoint that is run without being asked to. */
const smallBytes = 256 * 2 ** 20

/**
 * @throws {Error} one line: nothing to do, no checkpoint, a path that is taken, a component that is quantised already
 */
export async function modelQuantize(
  config: Config,
  folder: string,
  out: string,
  { textEncoder, transformer, block, report }: QuantizeOptions,
): Promise<void> {
  const plan: QuantisationPlan = {
    ...(textEncoder ? { text_encoder: formatOf(textEncoder, block) } : {}),
    ...(transformer ? { transformer: formatOf(transformer, block) } : {}),
  }
  if (Object.keys(plan).length === 0)
    throw new Error('expected --text-encoder, --transformer or both, got neither')
  const checkpoint = await openCheckpoint(folder)
  const isReported = report ?? sizeOf(checkpoint) <= smallBytes
  const startedMs = performance.now()
  const { components, endToEnd } = await untilInterrupted((signal) =>
    writeQuantisedCheckpoint(checkpoint, out, plan, {
      signal,
      onLayer: printLayer,
      ...(isReported
        ? { examine: (quantised) => examine(config, checkpoint.folder, quantised, signal) }
        : {}),
    }),
  )
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
  for (const name of ['text_encoder', 'transformer'] as const) {
    const cost = plan[name] && components[name]
    if (!cost) continue
    const { bits, group_size, sizeBytes, relativeError, cosine, layers } = cost
    const before = bytesOf(name === 'transformer' ? checkpoint.transformer : checkpoint.textEncoder)
    console.log(
      `${name}: ${layers.length} layers in ${bits} bits, blocks of ${group_size}: relative error ${relativeError.toFixed(4)}, cosine ${cosine.toFixed(6)}; ${mebibytes(before)} → ${mebibytes(sizeBytes)}`,
    )
  }
  if (endToEnd) printReport(endToEnd)
  console.log(`${out} written in ${seconds} s`)
}

const formatOf = (type: IntegerType, blockSize: number): BlockFormat => ({
  bits: type === 'int4' ? 4 : 8,
  blockSize,
})

function examine(
  config: Config,
  original: string,
  quantised: string,
  signal: AbortSignal,
): Promise<QuantisationReport> {
  return reportQuantisation(
    { original, quantised },
    {
      provider: 'cpu',
      threads: 0,
      lowering: 'serve',
      cacheDir: join(config.dataDir, 'cache'),
      onNote: (message) => console.log(`note: ${message}`),
    },
    { signal },
  )
}

function printLayer({ component, key, shape, relativeError, cosine }: QuantisedLayerCost): void {
  const figures = `relative error ${relativeError.toFixed(4)}  cosine ${cosine.toFixed(6)}`
  console.log(`${component}/${key}  ${shape.join(' × ')}  ${figures}`)
}

function printReport({
  hiddenStates,
  latents,
  pixels,
  prompts,
  steps,
  width,
  height,
}: QuantisationReport): void {
  const { cosine, relativeError } = hiddenStates
  console.log(`end to end, ${prompts} prompts, ${steps} steps at ${width} × ${height}, against the original:`)
  console.log(`  hidden states  cosine ${cosine.toFixed(6)}  relative error ${relativeError.toFixed(4)}`)
  console.log(
    `  final latents  cosine ${latents.cosine.toFixed(6)}  relative error ${latents.relativeError.toFixed(4)}`,
  )
  const { psnrDb } = pixels
  console.log(`  pixels         ${psnrDb === undefined ? 'equal' : `PSNR ${psnrDb.toFixed(2)} dB`}`)
}

type Component = Checkpoint['vae']

const bytesOf = ({ tensors }: Component): number =>
  [...tensors.values()].reduce((sum, { length }) => sum + length, 0)

const sizeOf = ({ transformer, textEncoder, vae }: Checkpoint): number =>
  [transformer, textEncoder, vae].reduce((sum, component) => sum + bytesOf(component), 0)
