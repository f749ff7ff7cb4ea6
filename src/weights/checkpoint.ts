/** Opens a pipeline's checkpoint as the hub publishes it, in the diffusers layout: a folder per component and model_index.json. */
import { basename, join } from 'node:path'
import { WeightsError } from './errors.ts'
import { listFolder, readWhole, resolveFolder } from './files.ts'
import { fingerprint, fingerprintWeights } from './fingerprint.ts'
import type { JsonObject } from './json.ts'
import { readJsonObject } from './python-json.ts'
import type { TensorLocation } from './safetensors.ts'
import { openWeights, type WeightsOptions } from './shards.ts'

/** A model of the pipeline: its hyper-parameters and where its tensors lie. */
export interface Component {
  /** The folder's name: `transformer`, `text_encoder`, `vae`. */
  readonly name: string
  readonly folder: string
  /** config.json, as it stands. */
  readonly config: JsonObject
  readonly configFile: string
  /** In real files: no symbolic link is left in any path. */
  readonly tensors: ReadonlyMap<string, TensorLocation>
  /** SHA-256 in hexadecimal over config.json and the weights; see fingerprintWeights for how much of them. */
  readonly fingerprint: string
}

export interface Checkpoint {
  readonly folder: string
  readonly transformer: Component
  readonly textEncoder: Component
  readonly vae: Component
  readonly scheduler: { readonly folder: string; readonly config: JsonObject; readonly configFile: string }
  readonly tokenizer: { readonly folder: string }
  /** Sixteen hexadecimal digits over the components' fingerprints, the scheduler's config and the tokenizer's files, all of these whole. */
  readonly version: string
}

const pipelineClass = 'PixArtAlphaPipeline'
const parts = ['transformer', 'text_encoder', 'vae', 'scheduler', 'tokenizer'] as const
const vocabularyFiles = ['spiece.model', 'tokenizer.json']
const tokenizerFiles = [
  ...vocabularyFiles,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
]

interface Pieces {
  readonly modelIndex: Promise<void>
  readonly transformer: Promise<Component>
  readonly textEncoder: Promise<Component>
  readonly vae: Promise<Component>
  readonly scheduler: Promise<{ readonly value: JsonObject; readonly bytes: Uint8Array }>
  readonly tokenizer: Promise<readonly { readonly name: string; readonly bytes: Uint8Array }[]>
}

/**
 * Reads headers, configs and the tokenizer's files, no weights.
 * @param path a checkpoint's folder, or a model's folder in a hub cache (`models--ORG--NAME`), whose `main` is taken
 * @throws {WeightsError} listing everything that is missing or wrong
 */
export async function openCheckpoint(path: string, options: WeightsOptions = {}): Promise<Checkpoint> {
  const folder = await findSnapshot(await resolveFolder(path))
  const pieces = openPieces(folder, options)
  await refuseTogether(folder, Object.values(pieces))
  return assemble(folder, pieces)
}

/** What could be opened of a checkpoint, and what is wrong with the rest. */
export interface InspectedCheckpoint {
  readonly folder: string
  readonly components: readonly Component[]
  readonly scheduler: JsonObject | undefined
  readonly hasTokenizer: boolean
  /** Where nothing is wrong. */
  readonly version: string | undefined
  readonly problems: readonly WeightsError[]
}

/**
 * As openCheckpoint, but what is wrong with one part hides nothing of the others.
 * @throws {WeightsError} when there is no such folder
 */
export async function inspectCheckpoint(path: string): Promise<InspectedCheckpoint> {
  const folder = await findSnapshot(await resolveFolder(path))
  const pieces = openPieces(folder, {})
  const problems = await problemsOf(Object.values(pieces))
  const opened = async <T>(piece: Promise<T>): Promise<T | undefined> => piece.catch(() => undefined)
  const components = await Promise.all([pieces.transformer, pieces.textEncoder, pieces.vae].map(opened))
  return {
    folder,
    components: components.filter((component) => component !== undefined),
    scheduler: (await opened(pieces.scheduler))?.value,
    hasTokenizer: (await opened(pieces.tokenizer)) !== undefined,
    version: problems.length === 0 ? (await assemble(folder, pieces)).version : undefined,
    problems,
  }
}

function openPieces(folder: string, options: WeightsOptions): Pieces {
  return {
    modelIndex: checkModelIndex(join(folder, 'model_index.json')),
    transformer: openComponent(join(folder, 'transformer'), options),
    textEncoder: openComponent(join(folder, 'text_encoder'), options),
    vae: openComponent(join(folder, 'vae'), options),
    scheduler: readJsonObject(join(folder, 'scheduler', 'scheduler_config.json')),
    tokenizer: readTokenizerFiles(join(folder, 'tokenizer')),
  }
}

async function assemble(folder: string, pieces: Pieces): Promise<Checkpoint> {
  const [transformer, textEncoder, vae] = [
    await pieces.transformer,
    await pieces.textEncoder,
    await pieces.vae,
  ]
  const [scheduler, tokenizer] = [await pieces.scheduler, await pieces.tokenizer]
  const version = fingerprint([
    ...[transformer, textEncoder, vae].map((component) => component.fingerprint),
    scheduler.bytes,
    ...tokenizer.flatMap(({ name, bytes }) => [name, bytes]),
  ]).slice(0, 16)
  const schedulerFolder = join(folder, 'scheduler')
  return {
    folder,
    transformer,
    textEncoder,
    vae,
    scheduler: {
      folder: schedulerFolder,
      config: scheduler.value,
      configFile: join(schedulerFolder, 'scheduler_config.json'),
    },
    tokenizer: { folder: join(folder, 'tokenizer') },
    version,
  }
}

/**
 * Opens one model: config.json beside its weights.
 * @throws {WeightsError}
 */
export async function openComponent(path: string, options: WeightsOptions = {}): Promise<Component> {
  const folder = await resolveFolder(path)
  const configFile = join(folder, 'config.json')
  const pieces = [readJsonObject(configFile), openWeights(folder, options)] as const
  await refuseTogether(folder, pieces)
  const [config, weights] = await Promise.all(pieces)
  return {
    name: basename(path),
    folder,
    config: config.value,
    configFile,
    tensors: weights.tensors,
    fingerprint: fingerprint([config.bytes, await fingerprintWeights(weights.files)]),
  }
}

/** Waits for all. @throws what is none of this room's errors */
async function problemsOf(pieces: readonly Promise<unknown>[]): Promise<readonly WeightsError[]> {
  const settled = await Promise.allSettled(pieces)
  const reasons = settled.flatMap((piece) => (piece.status === 'rejected' ? [piece.reason as unknown] : []))
  return reasons.map((reason) => {
    if (reason instanceof WeightsError) return reason
    throw reason
  })
}

/** Waits for all, and throws one error that says what each of the failed ones said. */
async function refuseTogether(folder: string, pieces: readonly Promise<unknown>[]): Promise<void> {
  const problems = await problemsOf(pieces)
  const [only] = problems
  if (only && problems.length === 1) throw only
  if (only) {
    const got = `${problems.length} problems:\n  ${problems.map(({ message }) => message).join('\n  ')}`
    throw new WeightsError({
      violation: 'layout',
      file: folder,
      expected: 'a checkpoint in the diffusers layout',
      got,
    })
  }
}

async function checkModelIndex(file: string): Promise<void> {
  const { value } = await readJsonObject(file)
  if (value._class_name !== pipelineClass) {
    const got = JSON.stringify(value._class_name ?? null)
    throw new WeightsError({ violation: 'layout', file, expected: `_class_name ${pipelineClass}`, got })
  }
  const absent = parts.filter(
    (part) => !(Array.isArray(value[part]) && value[part].every((item) => item !== null)),
  )
  if (absent.length > 0) {
    const expected = 'a library and a class for each component'
    throw new WeightsError({ violation: 'layout', file, expected, got: `none for ${absent.join(', ')}` })
  }
}

async function readTokenizerFiles(folder: string): Promise<readonly { name: string; bytes: Uint8Array }[]> {
  const present = new Set(await listFolder(folder))
  if (!vocabularyFiles.some((name) => present.has(name))) {
    const expected = vocabularyFiles.join(' or ')
    throw new WeightsError({
      violation: 'layout',
      file: folder,
      expected,
      got: [...present].join(', ') || 'an empty folder',
    })
  }
  return Promise.all(
    tokenizerFiles
      .filter((name) => present.has(name))
      .map(async (name) => ({ name, bytes: await readWhole(join(folder, name)) })),
  )
}

/** A hub cache keeps each revision under snapshots/, as links into blobs/, and in refs/main which one `main` is. */
async function findSnapshot(folder: string): Promise<string> {
  const names = await listFolder(folder)
  if (names.includes('model_index.json') || !names.includes('snapshots')) return folder
  const revisions = await listFolder(join(folder, 'snapshots'))
  const main = names.includes('refs')
    ? (await readWhole(join(folder, 'refs', 'main'))).toString().trim()
    : revisions[0]
  if (main !== undefined && revisions.includes(main)) return resolveFolder(join(folder, 'snapshots', main))
  const expected = `the revision ${main ?? 'main'} under snapshots/`
  throw new WeightsError({ violation: 'layout', file: folder, expected, got: revisions.join(', ') || 'none' })
}
