/** Writes a complete checkpoint in the diffusers layout from configurations alone: random weights, the right keys and shapes. */
import { createHash } from 'node:crypto'
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MersenneTwister } from '../src/diffusion/mersenne-twister.ts'
import type { Graph } from '../src/graph/ir.ts'
import type { ConfigFields } from '../src/models/config-reader.ts'
import { parameterShapes } from '../src/models/parameters.ts'
import { pixart, readPixArtConfig } from '../src/models/pixart.ts'
import { readT5Config, t5Encoder, type T5Config } from '../src/models/t5.ts'
import { readVaeConfig, vaeDecoder, vaeEncoder } from '../src/models/vae.ts'
import { writeSafetensors, type TensorSource } from '../src/weights/safetensors-writer.ts'

export interface SyntheticCheckpoint {
  /** What the components' config.json shall hold. */
  readonly transformer: ConfigFields
  readonly textEncoder: ConfigFields
  readonly vae: ConfigFields
  /** A folder with `spiece.model` or `tokenizer.json`, which is copied. */
  readonly tokenizer: string
  /** Decides every weight; a tensor's values depend on nothing but this, its component and its key. */
  readonly seed: number
}

/** Standard deviation of a tensor's values, which are uniform around `mean`. */
interface Distribution {
  readonly mean: number
  readonly deviation: number
}

type Initialise = (key: string, shape: readonly number[]) => Distribution

interface Component {
  readonly folder: string
  readonly file: string
  readonly config: ConfigFields
  readonly graphs: readonly Graph[]
  readonly initialise: Initialise
}

/**
 * Streams the weights to disk as float32, so that the model may be larger than memory. The same arguments give the same bytes.
 * @param folder made if need be; files in it of the same names are replaced
 * @throws {ModelConfigError} naming a configuration's field that is wrong
 */
export async function writeSyntheticCheckpoint(
  folder: string,
  { transformer, textEncoder, vae, tokenizer, seed }: SyntheticCheckpoint,
): Promise<void> {
  const [pixartConfig, t5Config, vaeConfig] = [
    readPixArtConfig(transformer),
    readT5Config(textEncoder),
    readVaeConfig(vae),
  ]
  const components: readonly Component[] = [
    {
      folder: 'transformer',
      file: 'diffusion_pytorch_model.safetensors',
      config: { _class_name: 'Transformer2DModel', ...transformer },
      graphs: [pixart(pixartConfig, 'serve')],
      initialise: byFanIn,
    },
    {
      folder: 'text_encoder',
      file: 'model.safetensors',
      config: { architectures: ['T5EncoderModel'], model_type: 't5', ...textEncoder },
      graphs: [t5Encoder(t5Config, 'serve')],
      initialise: t5Initialise(t5Config),
    },
    {
      folder: 'vae',
      file: 'diffusion_pytorch_model.safetensors',
      config: { _class_name: 'AutoencoderKL', ...vae },
      graphs: [vaeEncoder(vaeConfig, 'serve'), vaeDecoder(vaeConfig, 'serve')],
      initialise: byFanIn,
    },
  ]
  for (const component of components) await writeComponent(folder, component, seed)
  await writeJson(join(folder, 'scheduler'), 'scheduler_config.json', schedulerConfig)
  await cp(tokenizer, join(folder, 'tokenizer'), { recursive: true })
  await writeJson(folder, 'model_index.json', modelIndex)
}

async function writeComponent(
  checkpoint: string,
  { folder, file, config, graphs, initialise }: Component,
  seed: number,
): Promise<void> {
  const path = join(checkpoint, folder)
  await writeJson(path, 'config.json', config)
  const tensors = Array.from(parameterShapes(...graphs), ([key, shape]): [string, TensorSource] => {
    const data = values(`${seed}/${folder}/${key}`, sizeOf(shape), initialise(key, shape))
    return [key, { dtype: 'F32', shape, data }]
  })
  await writeSafetensors(join(path, file), tensors, new Map([['format', 'pt']]))
}

/** Keeps what passes through a layer at the size that it came in with: ones for norms, 1 / √fan-in for products. */
const byFanIn: Initialise = (key, shape) => {
  if (key.endsWith('bias')) return { mean: 0, deviation: 0.02 }
  if (shape.length === 1) return { mean: 1, deviation: 0.02 }
  return { mean: 0, deviation: sizeOf(shape.slice(1)) ** -0.5 }
}

/** T5 does not scale its attention; the queries' weights are smaller instead, as in transformers' `T5PreTrainedModel`. */
const t5Initialise =
  ({ width, headWidth }: T5Config): Initialise =>
  (key, shape) =>
    key.endsWith('.SelfAttention.q.weight')
      ? { mean: 0, deviation: (width * headWidth) ** -0.5 }
      : byFanIn(key, shape)

const chunkLength = 2 ** 18

/** `length` uniform random numbers as bytes of float32, some at a time. The array of a chunk is used again for the next. */
async function* values(
  name: string,
  length: number,
  { mean, deviation }: Distribution,
): AsyncGenerator<Uint8Array> {
  const random = new MersenneTwister(createHash('sha256').update(name).digest().readUInt32LE())
  const spread = deviation * Math.sqrt(12)
  const chunk = new Float32Array(Math.min(length, chunkLength))
  for (let done = 0; done < length; done += chunk.length) {
    const part = chunk.subarray(0, length - done)
    for (let i = 0; i < part.length; i++) part[i] = mean + spread * (random.next() / 2 ** 32 - 0.5)
    yield new Uint8Array(part.buffer, 0, part.byteLength)
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

async function writeJson(folder: string, file: string, value: unknown): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, file), `${JSON.stringify(value, null, 2)}\n`)
}

const modelIndex = {
  _class_name: 'PixArtAlphaPipeline',
  scheduler: ['diffusers', 'DPMSolverMultistepScheduler'],
  text_encoder: ['transformers', 'T5EncoderModel'],
  tokenizer: ['transformers', 'T5Tokenizer'],
  transformer: ['diffusers', 'Transformer2DModel'],
  vae: ['diffusers', 'AutoencoderKL'],
}

/** As PixArt-α's checkpoints have it, where that differs from the class's defaults or matters to a reader. */
const schedulerConfig = {
  _class_name: 'DPMSolverMultistepScheduler',
  algorithm_type: 'dpmsolver++',
  beta_end: 0.02,
  beta_schedule: 'linear',
  beta_start: 0.0001,
  num_train_timesteps: 1000,
  solver_order: 2,
}
