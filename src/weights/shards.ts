/** Opens a model's weights, however they are stored: one safetensors file, or several with an index that says what lies where. */
import { dirname, join } from 'node:path'
import { WeightsError } from './errors.ts'
import { isFolder, listFolder } from './files.ts'
import { isObject } from './json.ts'
import { listing } from './listing.ts'
import { readJsonObject } from './python-json.ts'
import { openSafetensors, type SafetensorsFile, type TensorLocation } from './safetensors.ts'

export interface Weights {
  readonly tensors: ReadonlyMap<string, TensorLocation>
  /** One, or a shard each. */
  readonly files: readonly SafetensorsFile[]
}

export interface WeightsOptions {
  /** `fp16` takes `model.fp16.safetensors`. Without one the plain file counts, or the only variant where there is no plain one. */
  readonly variant?: string
}

/** Names that diffusers and transformers save under; a variant may stand before or behind `safetensors.index`. */
const weightsName =
  /^(?<stem>diffusion_pytorch_model|model)(?:\.(?<variant>[\w-]+))?\.safetensors(?:(?<index>\.index)(?:\.(?<indexVariant>[\w-]+))?\.json)?$/

/**
 * @param path a folder, a `.safetensors` file or a `.index.json` file
 * @throws {WeightsError} nothing to open; a wrong header; index and shards that disagree, with every disagreement listed
 */
export async function openWeights(path: string, options: WeightsOptions = {}): Promise<Weights> {
  const file = (await isFolder(path)) ? join(path, await chooseFile(path, options.variant)) : path
  if (file.endsWith('.json')) return openSharded(file)
  const single = await openSafetensors(file)
  return { tensors: single.tensors, files: [single] }
}

/** A whole file goes before shards, as in transformers. */
async function chooseFile(folder: string, variant: string | undefined): Promise<string> {
  const names = await listFolder(folder)
  const candidates = names.flatMap((name) => {
    const groups = weightsName.exec(name)?.groups
    return groups
      ? [{ name, sharded: groups.index !== undefined, variant: groups.variant ?? groups.indexVariant }]
      : []
  })
  const variants = new Set(candidates.map((candidate) => candidate.variant))
  const only = variants.size === 1 ? [...variants][0] : undefined
  const wanted = variant ?? (variants.has(undefined) ? undefined : only)
  const fitting = candidates.filter((candidate) => candidate.variant === wanted)
  const chosen = fitting.find(({ sharded }) => !sharded) ?? fitting[0]
  if (chosen) return chosen.name

  const infix = variant === undefined ? '' : `.${variant}`
  const expected = `diffusion_pytorch_model${infix}.safetensors or model${infix}.safetensors, or either with an index`
  const pickled = names.find((name) => /\.(?:bin|pt|pth|ckpt)$/.test(name))
  const got = pickled
    ? `${pickled}, which is no safetensors`
    : (listing('files', names)[0] ?? 'an empty folder')
  throw new WeightsError({ violation: 'layout', file: folder, expected, got })
}

async function openSharded(index: string): Promise<Weights> {
  const weightMap = await readWeightMap(index)
  const names = [...new Set(weightMap.values())].sort()
  // Shards lie beside the index as it is named, even where both are links into a folder of blobs.
  const opened = await Promise.allSettled(names.map((name) => openSafetensors(join(dirname(index), name))))
  const failed = opened.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []))
  if (failed.length > 0) {
    const reasons = failed.map((reason) => (reason instanceof Error ? reason.message : String(reason)))
    const expected = `the shards that it lists (${names.length})`
    throw new WeightsError({
      violation: 'index',
      file: index,
      expected,
      got: reasons.join('; '),
      cause: failed[0],
    })
  }

  const shards = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const tensors = new Map<string, TensorLocation>()
  const misplaced = new Map<string, string>()
  const unlisted: string[] = []
  for (const [i, shard] of shards.entries()) {
    const name = names[i] ?? ''
    for (const [key, location] of shard.tensors) {
      const home = weightMap.get(key)
      if (home === undefined) unlisted.push(`${key} in ${name}`)
      else if (home !== name) misplaced.set(key, `${key} in ${name} instead of ${home}`)
      else tensors.set(key, location)
    }
  }
  const absent = [...weightMap].flatMap(([key, home]) =>
    tensors.has(key) || misplaced.has(key) ? [] : [`${key} from ${home}`],
  )
  const wrong = [
    ...listing('missing', absent),
    ...listing('in the wrong shard', misplaced.values()),
    ...listing('not in the index', unlisted),
  ]
  if (wrong.length > 0) {
    const expected = `shards that hold the ${weightMap.size} tensors that it lists`
    throw new WeightsError({ violation: 'index', file: index, expected, got: wrong.join('; ') })
  }
  return { tensors, files: shards }
}

/** @returns tensor → file name */
async function readWeightMap(index: string): Promise<ReadonlyMap<string, string>> {
  const { value } = await readJsonObject(index)
  const wrong = (got: string) =>
    new WeightsError({
      violation: 'index',
      file: index,
      expected: 'a weight_map of tensor names to file names',
      got,
    })
  if (!isObject(value.weight_map)) throw wrong('none')
  const entries = Object.entries(value.weight_map)
  if (entries.length === 0) throw wrong('an empty one')
  return new Map(
    entries.map(([key, name]) => {
      // A shard may not lead out of its folder.
      if (typeof name === 'string' && /^[^/\\]+\.safetensors$/.test(name)) return [key, name]
      throw wrong(`${JSON.stringify(name)} for ${JSON.stringify(key)}`)
    }),
  )
}
