/**
 * What a checkpoint is, what is wrong with it and what it needs to be served, by formulas for the CPU provider: from configurations
 * and headers.
 */
import { basename, join } from 'node:path'
import { parseSchedulerConfig, SchedulerConfigError } from '../diffusion/scheduler-config.ts'
import type { Graph } from '../graph/ir.ts'
import { ModelConfigError, type ConfigFields } from '../models/config-reader.ts'
import { readPixArtConfig, type PixArtConfig } from '../models/pixart.ts'
import type { Precision } from '../models/precision.ts'
import { readT5Config, type T5Config } from '../models/t5.ts'
import { readVaeConfig, vaeDownsampling, type VaeConfig } from '../models/vae.ts'
import { quantisationOf } from '../models/weight-storage.ts'
import { openTokenizer, TokenizerError } from '../text/tokenizer.ts'
import { inspectCheckpoint, type Component } from '../weights/checkpoint.ts'
import { elementsOf, type Dtype } from '../weights/dtypes.ts'
import { WeightsError } from '../weights/errors.ts'
import { readJsonObject } from '../weights/python-json.ts'
import { partKeys } from '../weights/quantisation.ts'
import {
  disagreements,
  maxPromptTokens,
  openTextEncoder,
  openTransformer,
  openVae,
  servedBytes,
  weightBytes,
  type ServedWeights,
  type ServeOptions,
} from '../models/components.ts'
import {
  decodeMemory,
  denoiseBytes,
  encodeBytes,
  memoryInput,
  weightMemory,
  type WeightMemory,
} from './memory-needs.ts'
import { planMemory, type MemoryPlan } from './memory-plan.ts'
import type { Provider } from './session.ts'

export interface CheckpointReport {
  readonly folder: string
  readonly family: 'PixArt-α'
  /** What its components are opened for, and with it what they take. */
  readonly served: Served
  /** Of everything in it; undefined where something is wrong. */
  readonly version: string | undefined
  /** Side of the square bucket in pixels. */
  readonly baseSize: number | undefined
  readonly components: readonly ComponentReport[]
  readonly problems: readonly Problem[]
  /** Where nothing is wrong. */
  readonly work: WorkReport | undefined
  readonly plan: MemoryPlan | undefined
}

export interface Served {
  readonly provider: Provider
  readonly precision: Precision
}

export interface ReportOptions extends Partial<Served> {
  /** What the device's process may take; by default what there is. */
  readonly limitBytes?: number | undefined
}

export interface Problem {
  readonly file: string
  readonly tensor?: string | undefined
  readonly message: string
}

export interface ComponentReport {
  readonly name: string
  readonly shape: string
  readonly parameters: number
  readonly quantisation?: { readonly bits: number; readonly blockSize: number } | undefined
  /** As they lie in the files, by dtype. */
  readonly storedBytes: Readonly<Partial<Record<Dtype, number>>>
  readonly files: readonly string[]
  /** In the types that they are computed in. */
  readonly servedBytes: number
  /** What a cache file will hold of it, written at the first start. */
  readonly convertedBytes: number
  readonly memory: WeightMemory
}

/** Beyond the weights, in bytes. */
export interface WorkReport {
  /** For prompts, by how many are encoded at once. */
  readonly encode: readonly { readonly rows: number; readonly sizeBytes: number }[]
  readonly denoise: readonly { readonly side: number; readonly rows: number; readonly sizeBytes: number }[]
  readonly decode: readonly {
    readonly side: number
    readonly wholeBytes: number
    readonly tiledBytes: number
  }[]
}

interface Opened<Config> {
  readonly config: Config
  readonly graphs: readonly Graph[]
  readonly weights: ServedWeights
}

/** How a component's configuration is read, opened and told. */
interface Kind<Config> {
  readonly name: string
  readonly read: (fields: ConfigFields) => Config
  readonly open: (component: Component, options: ServeOptions) => Opened<Config>
  readonly shape: (config: Config) => string
}

interface Models {
  readonly text: Opened<T5Config>
  readonly transformer: Opened<PixArtConfig>
  readonly vae: Opened<VaeConfig>
}

const textKind: Kind<T5Config> = {
  name: 'text_encoder',
  read: readT5Config,
  open: openTextEncoder,
  shape: ({ layers, width, heads }) => `${layers} layers, width ${width}, ${heads} heads`,
}

const transformerKind: Kind<PixArtConfig> = {
  name: 'transformer',
  read: readPixArtConfig,
  open: openTransformer,
  shape: ({ layers, heads, headWidth }) => `${layers} blocks, width ${heads * headWidth}, ${heads} heads`,
}

const vaeKind: Kind<VaeConfig> = {
  name: 'vae',
  read: readVaeConfig,
  open: openVae,
  shape: ({ channels }) => `${channels.join(', ')} channels`,
}

/** @throws {WeightsError} when there is no such folder */
export async function reportCheckpoint(
  path: string,
  { limitBytes, provider = 'cpu', precision = 'float32' }: ReportOptions = {},
): Promise<CheckpointReport> {
  const checkpoint = await inspectCheckpoint(path)
  const { folder, components } = checkpoint
  const problems: Problem[] = checkpoint.problems.map(problemOf)
  const reports: ComponentReport[] = []

  const open = async <Config>(kind: Kind<Config>): Promise<Opened<Config> | undefined> => {
    const configFile = join(folder, kind.name, 'config.json')
    const component = components.find(({ name }) => name === kind.name)
    if (!component) {
      // Its weights are wrong; its configuration may be as well.
      const config = await readJsonObject(configFile).catch(() => undefined)
      if (config) attempt(configFile, problems, () => kind.read(config.value))
      return undefined
    }
    const model = attempt(configFile, problems, () => kind.open(component, { lowering: 'serve', precision }))
    if (model) reports.push(componentReport(component, model, kind.shape(model.config)))
    return model
  }
  const transformer = await open(transformerKind)
  const text = await open(textKind)
  const vae = await open(vaeKind)

  const schedulerFile = join(folder, 'scheduler', 'scheduler_config.json')
  const { scheduler } = checkpoint
  if (scheduler) attempt(schedulerFile, problems, () => parseSchedulerConfig(scheduler))
  if (checkpoint.hasTokenizer) {
    const tokenizer = join(folder, 'tokenizer')
    await openTokenizer(tokenizer).catch((error: unknown) => problems.push(explain(tokenizer, error)))
  }

  const transformerFile = join(folder, transformerKind.name, 'config.json')
  for (const message of disagreements({ text, transformer, vae }))
    problems.push({ file: transformerFile, message: `${transformerFile}: ${message}` })
  const whole =
    problems.length === 0 && text && transformer && vae
      ? needs({ text, transformer, vae }, limitBytes)
      : undefined
  return {
    folder,
    family: 'PixArt-α',
    served: { provider, precision },
    version: problems.length === 0 ? checkpoint.version : undefined,
    baseSize: transformer && vae ? transformer.config.sampleSize * vaeDownsampling(vae.config) : undefined,
    components: reports,
    problems,
    work: whole?.work,
    plan: whole?.plan,
  }
}

function componentReport(
  { name, config, tensors }: Component,
  { graphs, weights }: Opened<unknown>,
  shape: string,
): ComponentReport {
  const quantisation = quantisationOf(name, config)
  const storedBytes: Partial<Record<Dtype, number>> = {}
  const files = new Set<string>()
  for (const { dtype, length, file } of tensors.values()) {
    storedBytes[dtype] = (storedBytes[dtype] ?? 0) + length
    files.add(basename(file))
  }
  let convertedBytes = 0
  for (const [key, location] of weights.tensors) {
    if (weights.dtypes(key, location.dtype) !== location.dtype)
      convertedBytes += servedBytes(weights, key, location)
  }
  return {
    name,
    shape,
    parameters: parametersOf(weights, quantisation?.bits),
    quantisation,
    storedBytes,
    files: [...files].sort(),
    servedBytes: weightBytes(weights),
    convertedBytes,
    memory: weightMemory(graphs, weights),
  }
}

/** Before quantisation; the last block of a row may count more than it holds. */
function parametersOf({ tensors }: ServedWeights, bits = 8): number {
  let count = 0
  const parts = new Set([...tensors.keys()].flatMap((key) => partKeys(key).slice(1)))
  for (const [key, { shape, dtype }] of tensors) {
    if (!parts.has(key)) count += (elementsOf(shape) ?? 0) * (dtype === 'U8' ? 8 / bits : 1)
  }
  return count
}

function needs(
  { text, transformer, vae }: Models,
  limitBytes: number | undefined,
): { readonly work: WorkReport; readonly plan: MemoryPlan } {
  const pixelsPerToken = (vaeDownsampling(vae.config) * transformer.config.patchSize) ** 2
  const decode = decodeMemory(vae.config)
  const encodeOf = (rows: number): number => encodeBytes(text.config, rows, maxPromptTokens)
  const plan = planMemory(memoryInput({ text, transformer, vae }, limitBytes))
  const [sides, rowCounts] = [
    [512, 1024],
    [1, 2],
  ]
  const work = {
    encode: rowCounts.map((rows) => ({ rows, sizeBytes: encodeOf(rows) })),
    denoise: sides.flatMap((side) =>
      rowCounts.map((rows) => {
        const sizeBytes = denoiseBytes(transformer.config, (rows * side ** 2) / pixelsPerToken)
        return { side, rows, sizeBytes }
      }),
    ),
    decode: sides.map((side) => ({
      side,
      wholeBytes: decode.wholeBytesPerPixel * side ** 2,
      tiledBytes: decode.tiledBytesPerPixel * side ** 2 + plan.stripBytes,
    })),
  }
  return { work, plan }
}

/** @returns what `action` does, or undefined where it throws what is the checkpoint's fault */
function attempt<T>(file: string, problems: Problem[], action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    problems.push(explain(file, error))
    return undefined
  }
}

function explain(file: string, error: unknown): Problem {
  if (error instanceof WeightsError) return problemOf(error)
  const isTheCheckpoints =
    error instanceof ModelConfigError ||
    error instanceof SchedulerConfigError ||
    error instanceof TokenizerError
  if (isTheCheckpoints) return { file, message: `${file}: ${error.message}` }
  throw error
}

const problemOf = ({ file, tensor, message }: WeightsError): Problem => ({ file, tensor, message })
