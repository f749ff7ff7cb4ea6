/** Writes folders that others load: a whole checkpoint of which some components have changed, or an adapter. */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ConfigFields } from '../models/config-reader.ts'
import { t5Aliases } from '../models/t5.ts'
import { vaeAliases } from '../models/vae.ts'
import { openCheckpoint, type Component } from '../weights/checkpoint.ts'
import { isSystemError } from '../weights/files.ts'
import { linkFile, linkFolder } from '../weights/file-links.ts'
import { refuseFullDisk, writeFolder, writeJson } from '../weights/folder-writer.ts'
import { readChunks, readFloats, type TensorLocation } from '../weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../weights/safetensors-writer.ts'
import { cutIntoShards, shardIndex, shardName } from '../weights/shard-plan.ts'
import { isDit } from './backbones/dit.ts'
import { componentNames, type ComponentName } from './checkpoint.ts'
import { TrainingError } from './errors.ts'
import type { LoraOptions } from './lora.ts'
import { writeAdapter } from './lora-files.ts'
import { mergedTensors, type LoraTensors } from './lora-merge.ts'
import { inTurns } from './turns.ts'

/** What a component becomes. */
export type ComponentChange =
  /** These weights; of the base's those that no one trained, where its configuration still holds. */
  | {
      readonly kind: 'trained'
      readonly config: ConfigFields
      readonly tensors: ReadonlyMap<string, TensorLocation>
    }
  /** The base's with an adapter in them, each in the type that it has there. */
  | ({ readonly kind: 'merged'; readonly tensors: LoraTensors } & Pick<LoraOptions, 'rank' | 'alpha'>)

export interface ModelExport {
  /** A checkpoint in the diffusers layout. Weights that have not changed are linked, or copied to another disk. */
  readonly base: string
  readonly out: string
  readonly changes: Readonly<Partial<Record<ComponentName, ComponentChange>>>
  /** Largest file of weights; by default 10 GB, as diffusers cuts them. */
  readonly maxShardBytes?: number
}

/** Stops between pieces of some milliseconds. A transformer that is a DiT makes a checkpoint of diffusers' DiTPipeline. */
export async function* exportModel({
  base,
  out,
  changes,
  maxShardBytes = 10e9,
}: ModelExport): AsyncGenerator<void, void, void> {
  const checkpoint = await openCheckpoint(base)
  const components: Readonly<Record<ComponentName, Component>> = {
    transformer: checkpoint.transformer,
    text_encoder: checkpoint.textEncoder,
    vae: checkpoint.vae,
  }
  const { transformer } = changes
  const readsClasses =
    transformer?.kind === 'trained' && isDit({ config: transformer.config as Component['config'] })
  yield* inTurns((turn) =>
    writeNewFolder(out, async (folder) => {
      const planned = componentNames
        .filter((name) => !(readsClasses && name === 'text_encoder'))
        .map((name) => ({ name, change: changes[name] }))
      const sizes = planned.map(({ name, change }) => (change ? sizeBytesOf(components[name], change) : 0))
      await refuseFullDisk(
        out,
        sizes.reduce((a, b) => a + b, 0),
      )
      for (const { name, change } of planned) {
        if (change)
          await writeComponent(join(folder, name), components[name], change, { maxShardBytes, turn })
        else await linkFolder(components[name].folder, join(folder, name))
      }
      await linkFolder(checkpoint.scheduler.folder, join(folder, 'scheduler'))
      if (readsClasses) return writeJson(join(folder, 'model_index.json'), ditIndex)
      await linkFolder(checkpoint.tokenizer.folder, join(folder, 'tokenizer'))
      return linkFile(join(checkpoint.folder, 'model_index.json'), join(folder, 'model_index.json'))
    }),
  )
}

const ditIndex = {
  _class_name: 'DiTPipeline',
  scheduler: ['diffusers', 'DPMSolverMultistepScheduler'],
  transformer: ['diffusers', 'Transformer2DModel'],
  vae: ['diffusers', 'AutoencoderKL'],
}

export interface AdapterExport extends LoraOptions {
  readonly tensors: LoraTensors
  /** What it was trained beside. */
  readonly base: string
  readonly out: string
}

export async function* exportAdapter({
  out,
  tensors,
  ...options
}: AdapterExport): AsyncGenerator<void, void, void> {
  yield* inTurns((turn) =>
    writeNewFolder(out, async (folder) => {
      const read = new Map<string, TensorSource>()
      for (const [key, location] of tensors) {
        await turn()
        read.set(key, { dtype: 'F32', shape: location.shape, data: await readFloats(location) })
      }
      await writeAdapter(folder, { ...options, tensors: read })
    }),
  )
}

/** @throws {TrainingError} when there is something already */
async function writeNewFolder(out: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const names = await readdir(out).catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT')) return []
    throw error
  })
  if (names[0] !== undefined)
    throw new TrainingError(`${out}: expected nothing or an empty folder, got one with ${names[0]} in it`)
  await writeFolder(out, fill)
}

interface Writing {
  readonly maxShardBytes: number
  readonly turn: () => Promise<void>
}

const stems: Readonly<Record<ComponentName, string>> = {
  transformer: 'diffusion_pytorch_model',
  text_encoder: 'model',
  vae: 'diffusion_pytorch_model',
}

async function writeComponent(
  folder: string,
  base: Component,
  change: ComponentChange,
  { maxShardBytes, turn }: Writing,
): Promise<void> {
  await mkdir(folder)
  const keepsConfig = change.kind === 'merged' || sameConfig(change.config, base)
  if (keepsConfig) await linkFile(base.configFile, join(folder, 'config.json'))
  else await writeJson(join(folder, 'config.json'), change.config)
  const sources =
    change.kind === 'merged' ? mergedSources(base, change, turn) : trainedSources(base, change, turn)
  const shards = cutIntoShards(sources, ([, { sizeBytes }]) => sizeBytes, maxShardBytes)
  const stem = stems[base.name as ComponentName]
  const weightMap = new Map<string, string>()
  for (const [i, shard] of shards.entries()) {
    const name = shardName(stem, i, shards.length)
    for (const [key] of shard) weightMap.set(key, name)
    await writeSafetensors(
      join(folder, name),
      shard.map(([key, { source }]) => [key, source]),
      new Map([['format', 'pt']]),
    )
  }
  const totalBytes = [...sources.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  if (shards.length > 1)
    await writeJson(join(folder, `${stem}.safetensors.index.json`), shardIndex(weightMap, totalBytes))
}

interface Sized {
  readonly source: TensorSource
  readonly sizeBytes: number
}
type Sources = ReadonlyMap<string, Sized>

/** A merged tensor is as large as it was. */
function mergedSources(
  base: Component,
  change: ComponentChange & { kind: 'merged' },
  turn: Writing['turn'],
): Sources {
  const merged = mergedTensors(base.tensors, change.tensors, change, turn)
  return new Map(
    [...base.tensors].map(([key, location]) => [
      key,
      { source: merged.get(key) ?? copyOf(location, turn), sizeBytes: location.length },
    ]),
  )
}

function trainedSources(
  base: Component,
  change: ComponentChange & { kind: 'trained' },
  turn: Writing['turn'],
): Sources {
  return new Map(
    [...locationsOf(base, change)].map(([key, location]) => [
      key,
      { source: copyOf(location, turn), sizeBytes: location.length },
    ]),
  )
}

const aliases: Readonly<Partial<Record<string, ReadonlyMap<string, readonly string[]>>>> = {
  text_encoder: t5Aliases,
  vae: vaeAliases,
}

/** The trained tensors, and those of the base that nobody trains: the buffers that diffusers keeps beside its weights. */
function locationsOf(
  base: Component,
  { config, tensors }: ComponentChange & { kind: 'trained' },
): ReadonlyMap<string, TensorLocation> {
  if (!sameConfig(config, base)) return tensors
  const others = new Set(
    [...(aliases[base.name] ?? [])].flatMap(([key, names]) => (tensors.has(key) ? names : [])),
  )
  const kept = [...base.tensors].filter(([key]) => !tensors.has(key) && !others.has(key))
  return new Map([...tensors, ...kept])
}

const sizeBytesOf = (base: Component, change: ComponentChange): number =>
  [...(change.kind === 'merged' ? base.tensors : locationsOf(base, change)).values()].reduce(
    (sum, { length }) => sum + length,
    0,
  )

const sameConfig = (config: ConfigFields, base: Component): boolean =>
  JSON.stringify(config) === JSON.stringify(base.config)

const pieceBytes = 4 * 2 ** 20

const copyOf = (location: TensorLocation, turn: Writing['turn']): TensorSource => ({
  dtype: location.dtype,
  shape: location.shape,
  data: piecesOf(location, turn),
})

async function* piecesOf(
  location: TensorLocation,
  turn: Writing['turn'],
): AsyncGenerator<Uint8Array, void, void> {
  for await (const piece of readChunks(location, pieceBytes)) {
    await turn()
    yield piece
  }
}
