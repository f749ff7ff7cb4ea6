/**
 * Adapters in files, in the two forms that others read:
 *
 * - PEFT's: `adapter_config.json`, which holds alpha, and `adapter_model.safetensors`. diffusers has no LoRA loader of its own for
 *   PixArt; `PeftModel.from_pretrained(pipeline.transformer, folder)` is how one is put on it.
 * - diffusers': `pytorch_lora_weights.safetensors` with alpha in the metadata, where diffusers' loaders look for it (`lora_adapter_metadata`),
 *   and beside each pair of tensors as `….alpha`, where ComfyUI and kohya's tools do. Who finds none takes the rank for it.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isFolder } from '../weights/files.ts'
import { isObject, parseJson, type JsonObject, type JsonValue } from '../weights/json.ts'
import { writeJson } from '../weights/folder-writer.ts'
import { readJsonObject } from '../weights/python-json.ts'
import { openSafetensors, readFloats, type SafetensorsFile } from '../weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../weights/safetensors-writer.ts'
import { isLoraKey, LoraError, type LoraOptions } from './lora.ts'
import { adaptedModules, type LoraTensors } from './lora-merge.ts'

const peftConfigFile = 'adapter_config.json'
const peftTensorsFile = 'adapter_model.safetensors'
const diffusersFile = 'pytorch_lora_weights.safetensors'
const metadataKey = 'lora_adapter_metadata'

/** What the keys begin with. */
const peftPrefix = 'base_model.model.'
const diffusersPrefix = 'transformer.'

export interface AdapterFiles extends LoraOptions {
  /** By the keys that a run has them under. */
  readonly tensors: ReadonlyMap<string, TensorSource>
  /** What it was trained beside: a name or a folder. */
  readonly base: string
}

/** Writes both forms into a folder that is there. */
export async function writeAdapter(folder: string, { tensors, ...options }: AdapterFiles): Promise<void> {
  const prefixed = (prefix: string): [string, TensorSource][] =>
    Array.from(tensors, ([key, source]) => [prefix + key, source])
  await writeJson(join(folder, peftConfigFile), peftConfig(options))
  await writeSafetensors(join(folder, peftTensorsFile), prefixed(peftPrefix), new Map([['format', 'pt']]))

  const alphas = [...tensors.keys()]
    .filter((key) => key.endsWith('.lora_A.weight'))
    .map((key): [string, TensorSource] => [
      diffusersPrefix + key.replace(/\.lora_A\.weight$/, '.alpha'),
      { dtype: 'F32', shape: [], data: Float32Array.of(options.alpha) },
    ])
  const metadata = new Map([
    ['format', 'pt'],
    [metadataKey, JSON.stringify(diffusersMetadata(options))],
  ])
  await writeSafetensors(join(folder, diffusersFile), [...prefixed(diffusersPrefix), ...alphas], metadata)
}

type Description = Omit<AdapterFiles, 'tensors'>

/** Those fields of a LoraConfig that all versions of PEFT know. */
const peftConfig = ({ rank, alpha, targets, base }: Description) => ({
  auto_mapping: null,
  base_model_name_or_path: base,
  bias: 'none',
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layers_pattern: null,
  layers_to_transform: null,
  lora_alpha: alpha,
  lora_dropout: 0,
  modules_to_save: null,
  peft_type: 'LORA',
  r: rank,
  revision: null,
  target_modules: [...targets],
  task_type: null,
})

const diffusersMetadata = ({ rank, alpha, targets }: Description) => ({
  [`${diffusersPrefix}bias`]: 'none',
  [`${diffusersPrefix}lora_alpha`]: alpha,
  [`${diffusersPrefix}lora_dropout`]: 0,
  [`${diffusersPrefix}r`]: rank,
  [`${diffusersPrefix}target_modules`]: [...targets],
})

export interface StoredAdapter extends Pick<LoraOptions, 'rank' | 'alpha'> {
  /** By the keys that a run has them under. */
  readonly tensors: LoraTensors
}

export interface ReadAdapterOptions {
  /** Of a file that does not say: PEFT's default is 8, and what has no alpha elsewhere counts as the rank. */
  readonly alpha?: number
}

/**
 * Reads headers and what alpha is, no weights.
 * @param path a folder of either form, or the safetensors file itself
 * @throws {LoraError} when it does not say what alpha is, or holds something else than A and B of one rank
 * @throws {WeightsError} when it cannot be read
 */
export async function readAdapter(path: string, options: ReadAdapterOptions = {}): Promise<StoredAdapter> {
  const { file, config } = await findAdapter(path)
  const opened = await openSafetensors(file)
  const tensors = new Map(
    [...opened.tensors]
      .filter(([key]) => !key.endsWith('.alpha'))
      .map(([key, location]) => [runKey(key), location] as const),
  )
  const others = [...tensors.keys()].filter((key) => !isLoraKey(key))
  if (others.length > 0 || tensors.size === 0)
    throw new LoraError(
      `${file}: expected lora_A.weight and lora_B.weight of modules, got ${others[0] ?? 'nothing'}`,
    )
  const ranks = new Set([...tensors].map(([key, { shape }]) => shape[key.endsWith('.lora_A.weight') ? 0 : 1]))
  const [rank] = ranks
  if (ranks.size !== 1 || rank === undefined || tensors.size !== 2 * adaptedModules(tensors).length)
    throw new LoraError(`${file}: expected pairs of one rank, got ranks ${[...ranks].join(', ')}`)
  const alpha = alphaOf(config) ?? (await alphaOfTensors(opened)) ?? options.alpha
  if (alpha === undefined)
    throw new LoraError(`${file}: expected lora_alpha in ${peftConfigFile} or in the file, got none`)
  return { rank, alpha, tensors }
}

/** PEFT puts the adapter's name in where it keeps several. */
const runKey = (key: string): string =>
  key
    .replace(/^base_model\.model\.|^transformer\./, '')
    .replace(/\.(lora_[AB])\.default\.weight$/, '.$1.weight')

async function findAdapter(
  path: string,
): Promise<{ readonly file: string; readonly config: JsonObject | undefined }> {
  if (!(await isFolder(path))) return { file: path, config: undefined }
  const names = await readdir(path)
  if (names.includes(peftConfigFile) && names.includes(peftTensorsFile))
    return {
      file: join(path, peftTensorsFile),
      config: (await readJsonObject(join(path, peftConfigFile))).value,
    }
  if (names.includes(diffusersFile)) return { file: join(path, diffusersFile), config: undefined }
  throw new LoraError(
    `${path}: expected ${peftTensorsFile} with ${peftConfigFile}, or ${diffusersFile}, got ${names.join(', ') || 'nothing'}`,
  )
}

/** @throws {LoraError} when it asks for what is more than A and B */
function alphaOf(config: JsonObject | undefined): number | undefined {
  const extras = ['use_dora', 'use_rslora', 'alpha_pattern', 'rank_pattern'].filter((name) =>
    isSet(config?.[name]),
  )
  if (extras.length > 0) throw new LoraError(`an adapter with ${extras.join(', ')}: expected none of these`)
  return typeof config?.['lora_alpha'] === 'number' ? config['lora_alpha'] : undefined
}

const isSet = (value: JsonValue | undefined): boolean =>
  value === true || (isObject(value) && Object.keys(value).length > 0)

async function alphaOfTensors({ file, tensors, metadata }: SafetensorsFile): Promise<number | undefined> {
  const json = metadata.get(metadataKey)
  if (json !== undefined) {
    const config = parseJson(json, 'python')
    if (!isObject(config)) throw new LoraError(`${file}: expected ${metadataKey} as an object, got ${json}`)
    const own = Object.entries(config).map(([key, value]) => [key.replace(/^transformer\./, ''), value])
    const alpha = alphaOf(Object.fromEntries(own) as JsonObject)
    if (alpha !== undefined) return alpha
  }
  const alphas = new Set<number | undefined>()
  for (const [key, location] of tensors)
    if (key.endsWith('.alpha')) alphas.add((await readFloats(location))[0])
  if (alphas.size > 1)
    throw new LoraError(`${file}: expected one alpha for all modules, got ${[...alphas].join(', ')}`)
  return [...alphas][0]
}
