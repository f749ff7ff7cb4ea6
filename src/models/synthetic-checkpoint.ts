/** Writes a complete checkpoint in the diffusers layout from configurations alone: random weights, the right keys and shapes. */
import { cp, mkdir, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Graph } from '../graph/ir.ts'
import { bytesPerElement, type FloatDtype } from '../weights/dtypes.ts'
import { WeightsError } from '../weights/errors.ts'
import { explained, isSystemError } from '../weights/files.ts'
import { refuseFullDisk, writeFolder, writeJson } from '../weights/folder-writer.ts'
import { writeSafetensors, type TensorSource } from '../weights/safetensors-writer.ts'
import { cutIntoShards, shardIndex, shardName } from '../weights/shard-plan.ts'
import type { ConfigFields } from './config-reader.ts'
import { parameterShapes } from './parameters.ts'
import { pixart, readPixArtConfig, type PixArtConfig } from './pixart.ts'
import { syntheticValues, type Distribution } from './synthetic-values.ts'
import { readT5Config, t5Encoder, type T5Config } from './t5.ts'
import { readVaeConfig, vaeDecoder, vaeEncoder } from './vae.ts'

export interface SyntheticCheckpoint {
  /** What the components' config.json shall hold. */
  readonly transformer: ConfigFields
  readonly textEncoder: ConfigFields
  readonly vae: ConfigFields
  /** What scheduler_config.json shall hold beside what is published with PixArt-α, or instead of it. */
  readonly scheduler?: ConfigFields
  /** A folder with `spiece.model` or `tokenizer.json`, which is copied. */
  readonly tokenizer: string
  /** Decides every weight; a tensor's values depend on nothing but this, its component and its key. */
  readonly seed: number
  /** Of all weights; F32 by default. */
  readonly dtype?: FloatDtype
  /** Largest file of the text encoder; by default 10 GB, by which transformers cut what is published. */
  readonly maxShardBytes?: number
}

export interface WriteOptions {
  /** Called before each file of weights. */
  readonly onFile?: (file: { readonly name: string; readonly sizeBytes: number }) => void
  /** Ends the work between two pieces of a tensor; nothing is left behind. */
  readonly signal?: AbortSignal
}

type Shapes = ReadonlyMap<string, readonly number[]>
type Initialise = (key: string, shape: readonly number[]) => Distribution

interface Component {
  readonly folder: string
  /** Without `.safetensors`. */
  readonly stem: string
  readonly config: ConfigFields
  /** In the order in which shards are filled. */
  readonly shapes: Shapes
  readonly maxShardBytes: number
  readonly initialise: Initialise
}

/**
 * Streams the weights to disk in a few MiB of memory, so that the model may be far larger. The same arguments give the same
 * bytes. The folder appears whole or not at all.
 * @param path made; it may be there if it is empty
 * @throws {ModelConfigError} naming a configuration's field that is wrong
 * @throws {WeightsError} when the folder is there and not empty, or the disk has too little space or takes no file
 */
export async function writeSyntheticCheckpoint(
  path: string,
  checkpoint: SyntheticCheckpoint,
  { onFile, signal }: WriteOptions = {},
): Promise<void> {
  const { seed, tokenizer, scheduler, dtype = 'F32' } = checkpoint
  const components = componentsOf(checkpoint, dtype)
  const folder = resolve(path)
  await refuseOccupied(folder)
  await writeFolder(folder, async (temporary) => {
    await refuseFullDisk(folder, components.reduce((sum, { shapes }) => sum + sizeBytesOf(shapes, dtype), 0))
    for (const component of components) await writeComponent(temporary, component, { seed, dtype, onFile, signal })
    await mkdir(join(temporary, 'scheduler'))
    await writeJson(join(temporary, 'scheduler', 'scheduler_config.json'), { ...schedulerConfig, ...scheduler })
    await cp(tokenizer, join(temporary, 'tokenizer'), { recursive: true })
    await writeJson(join(temporary, 'model_index.json'), modelIndex)
    signal?.throwIfAborted()
  })
}

function componentsOf(checkpoint: SyntheticCheckpoint, dtype: FloatDtype): readonly Component[] {
  const { transformer, textEncoder, vae, maxShardBytes = 10e9 } = checkpoint
  const [pixartConfig, t5Config, vaeConfig] = [
    readPixArtConfig(transformer),
    readT5Config(textEncoder),
    readVaeConfig(vae),
  ]
  return [
    {
      folder: 'transformer',
      stem: 'diffusion_pytorch_model',
      config: { _class_name: 'Transformer2DModel', ...transformer },
      shapes: transformerShapes(pixartConfig),
      maxShardBytes: Infinity,
      initialise: byFanIn,
    },
    {
      folder: 'text_encoder',
      stem: 'model',
      config: {
        architectures: ['T5EncoderModel'],
        model_type: 't5',
        ...textEncoder,
        torch_dtype: torchDtypes[dtype],
      },
      shapes: inModuleOrder(shapesOf(t5Encoder(t5Config, 'serve'))),
      maxShardBytes,
      initialise: t5Initialise(t5Config),
    },
    {
      folder: 'vae',
      stem: 'diffusion_pytorch_model',
      config: { _class_name: 'AutoencoderKL', ...vae },
      shapes: shapesOf(vaeEncoder(vaeConfig, 'serve'), vaeDecoder(vaeConfig, 'serve')),
      maxShardBytes: Infinity,
      initialise: byFanIn,
    },
  ]
}

const shapesOf = (...graphs: readonly Graph[]): Shapes => parameterShapes(...graphs)

const torchDtypes: Readonly<Record<FloatDtype, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }

/** Published checkpoints carry the embedding of dropped captions, 120 tokens, which training reads and serving does not. */
const transformerShapes = (config: PixArtConfig): Shapes =>
  new Map([
    ...shapesOf(pixart(config, 'serve')),
    ['caption_projection.y_embedding', [120, config.captionWidth]],
  ])

/** transformers fills shards in the order of T5's modules. */
function inModuleOrder(shapes: Shapes): Shapes {
  const order = ['q', 'k', 'v', 'o', 'relative_attention_bias', 'wi_0', 'wi_1', 'wo', 'layer_norm']
  const rank = (key: string): number => {
    const [, block, layer, rest] = /^encoder\.block\.(\d+)\.layer\.(\d+)\.(.*)\.weight$/.exec(key) ?? []
    if (rest === undefined) return key === 'shared.weight' ? -1 : Infinity
    const part = order.indexOf(rest.split('.').at(-1) ?? '')
    return (Number(block) * 2 + Number(layer)) * order.length + part
  }
  return new Map([...shapes].sort(([a], [b]) => rank(a) - rank(b)))
}

async function refuseOccupied(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT')) return []
    return explained(folder, 'a folder to write a checkpoint into', Promise.reject(error))
  })
  const [name] = names
  if (name === undefined) return
  const expected = 'a folder that is empty or not there'
  throw new WeightsError({ violation: 'unwritable', file: folder, expected, got: `one with ${name} in it` })
}

interface Values {
  readonly seed: number
  readonly dtype: FloatDtype
  readonly onFile: WriteOptions['onFile']
  readonly signal: AbortSignal | undefined
}

async function writeComponent(
  checkpoint: string,
  { folder, stem, config, shapes, maxShardBytes, initialise }: Component,
  { seed, dtype, onFile, signal }: Values,
): Promise<void> {
  const path = join(checkpoint, folder)
  await mkdir(path)
  await writeJson(join(path, 'config.json'), config)
  const shards = cutIntoShards(
    shapes,
    ([, shape]) => sizeOf(shape) * bytesPerElement[dtype],
    maxShardBytes,
  )
  const weightMap = new Map<string, string>()
  for (const [i, shard] of shards.entries()) {
    const name = shardName(stem, i, shards.length)
    onFile?.({ name: join(folder, name), sizeBytes: sizeBytesOf(new Map(shard), dtype) })
    const tensors = Array.from(shard, ([key, shape]): [string, TensorSource] => {
      weightMap.set(key, name)
      const data = syntheticValues(`${seed}/${folder}/${key}`, dtype, sizeOf(shape), initialise(key, shape))
      return [key, { dtype, shape, data }]
    })
    await writeSafetensors(join(path, name), tensors, new Map([['format', 'pt']]), signal)
  }
  if (shards.length > 1)
    await writeJson(join(path, `${stem}.safetensors.index.json`), shardIndex(weightMap, sizeBytesOf(shapes, dtype)))
}

/** Keeps what passes through a layer at the size that it came in with: ones for norms, 1 / √fan-in for products. */
const byFanIn: Initialise = (key, shape) => {
  if (key.endsWith('bias')) return { mean: 0, deviation: 0.02 }
  if (shape.length === 1) return { mean: 1, deviation: 0.02 }
  return { mean: 0, deviation: sizeOf(shape.slice(1)) ** -0.5 }
}

/**
 * As transformers' `T5PreTrainedModel` begins: T5 does not scale its attention, and the queries' weights are smaller instead; tokens
 * are as large as what a layer adds to them, or nothing would be left of which they are.
 */
const t5Initialise =
  ({ width, headWidth }: T5Config): Initialise =>
  (key, shape) => {
    if (key.endsWith('.SelfAttention.q.weight')) return { mean: 0, deviation: (width * headWidth) ** -0.5 }
    if (key === 'shared.weight') return { mean: 0, deviation: 1 }
    return byFanIn(key, shape)
  }

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

const sizeBytesOf = (shapes: Shapes, dtype: FloatDtype): number =>
  [...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape) * bytesPerElement[dtype], 0)

const modelIndex = {
  _class_name: 'PixArtAlphaPipeline',
  _diffusers_version: '0.22.0.dev0',
  scheduler: ['diffusers', 'DPMSolverMultistepScheduler'],
  text_encoder: ['transformers', 'T5EncoderModel'],
  tokenizer: ['transformers', 'T5Tokenizer'],
  transformer: ['diffusers', 'Transformer2DModel'],
  vae: ['diffusers', 'AutoencoderKL'],
}

/** As published, but for `lambda_min_clipped`: the class's default of −∞ is none of JSON's numbers. */
const schedulerConfig = {
  _class_name: 'DPMSolverMultistepScheduler',
  _diffusers_version: '0.22.0.dev0',
  algorithm_type: 'dpmsolver++',
  beta_end: 0.02,
  beta_schedule: 'linear',
  beta_start: 0.0001,
  dynamic_thresholding_ratio: 0.995,
  euler_at_final: false,
  lower_order_final: true,
  num_train_timesteps: 1000,
  prediction_type: 'epsilon',
  sample_max_value: 1.0,
  solver_order: 2,
  solver_type: 'midpoint',
  steps_offset: 0,
  thresholding: false,
  timestep_spacing: 'linspace',
  trained_betas: null,
  use_karras_sigmas: false,
  use_lu_lambdas: false,
  variance_type: null,
}
