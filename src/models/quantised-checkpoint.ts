/** Writes a checkpoint anew with some of its components quantised: complete, in the diffusers layout, whole or not at all. */
import { constants } from 'node:fs'
import { copyFile, link, mkdir, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import type { Checkpoint, Component } from '../weights/checkpoint.ts'
import { WeightsError } from '../weights/errors.ts'
import { explained, isSystemError } from '../weights/files.ts'
import { refuseFullDisk, writeFolder, writeJson } from '../weights/folder-writer.ts'
import { addSums, noWeights, type BlockFormat, type WeightSums } from '../weights/quantisation.ts'
import {
  quantisedBytes,
  writeQuantisedComponent,
  type QuantisedLayer,
  type Target,
} from '../weights/quantised-component.ts'
import {
  distinctKeys,
  formatFor,
  quantisableComponents,
  quantisationOf,
  quantizationConfig,
  type QuantisableComponent,
} from './weight-storage.ts'

export type QuantisationPlan = Readonly<Partial<Record<QuantisableComponent, BlockFormat>>>

/** How far the quantised weights are from the original ones. */
export interface WeightCost {
  /** √(Σ(w − q)² / Σw²) */
  readonly relativeError: number
  readonly cosine: number
}

export interface QuantisedLayerCost extends WeightCost {
  readonly component: QuantisableComponent
  readonly key: string
  readonly shape: readonly number[]
}

export interface ComponentCost extends WeightCost {
  readonly bits: BlockFormat['bits']
  readonly group_size: number
  readonly sizeBytes: number
  readonly layers: readonly (Omit<QuantisedLayerCost, 'component'> & { readonly bits: BlockFormat['bits'] })[]
}

/** What quantization.json holds. */
export interface QuantisationManifest<Examined = unknown> {
  /** Of the checkpoint that was quantised. */
  readonly source: string
  readonly components: Readonly<Partial<Record<QuantisableComponent, ComponentCost>>>
  /** What was found by running it. */
  readonly endToEnd?: Examined
}

export const manifestName = 'quantization.json'

export interface QuantiseCheckpointOptions<Examined> {
  readonly onLayer?: (layer: QuantisedLayerCost) => void
  readonly signal?: AbortSignal
  /** Looks at the finished folder before it gets its name; what it returns goes into the manifest. */
  readonly examine?: (folder: string) => Promise<Examined>
}

/**
 * Streams the components in the plan through some hundred MiB of memory. The weights of all others are linked where the file
 * system can, and copied where it cannot.
 * @param path made; it must not be there
 * @throws {WeightsError} when the path is taken, a component is quantised already, the disk is too small, or weights do not fit
 * @throws {ModelConfigError} when a component is quantised in a way that is not covered
 */
export async function writeQuantisedCheckpoint<Examined>(
  checkpoint: Checkpoint,
  path: string,
  plan: QuantisationPlan,
  { onLayer, signal, examine }: QuantiseCheckpointOptions<Examined> = {},
): Promise<QuantisationManifest<Examined>> {
  const folder = resolve(path)
  await refuseTaken(folder)
  const components = [checkpoint.textEncoder, checkpoint.transformer].flatMap((component) => work(component, plan))
  return writeFolder(folder, async (temporary) => {
    const others = parts.filter((part) => components.every(({ name }) => name !== part))
    const copies = await takeOver(checkpoint.folder, temporary, /^(?:model_index\.json|LICENSE.*|README.*)$/)
    for (const part of others) {
      await mkdir(join(temporary, part))
      copies.push(...(await takeOver(join(checkpoint.folder, part), join(temporary, part))))
    }
    const copiedBytes = copies.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    const quantised = components.map(({ component, targets }) => quantisedBytes(component, targets))
    await refuseFullDisk(folder, quantised.reduce((sum, sizeBytes) => sum + sizeBytes, copiedBytes))
    for (const { file, target } of copies) {
      signal?.throwIfAborted()
      await explained(target, 'a disk that takes a copy', copyFile(file, target, constants.COPYFILE_FICLONE))
    }
    const costs: Partial<Record<QuantisableComponent, ComponentCost>> = {}
    for (const { name, component, format, targets } of components) {
      const stem = name === 'transformer' ? 'diffusion_pytorch_model' : 'model'
      const config = { ...component.config, quantization_config: quantizationConfig(format) }
      const layers = await writeQuantisedComponent(
        component,
        join(temporary, name),
        { stem, config, targets },
        { signal, onLayer: (layer) => onLayer?.({ component: name, ...costOf(layer) }) },
      )
      costs[name] = componentCost(layers, format, quantisedBytes(component, targets))
    }
    const manifest = {
      source: checkpoint.version,
      components: { ...(await earlierCosts(checkpoint.folder)), ...costs },
    }
    const endToEnd = await examine?.(temporary)
    const complete = endToEnd === undefined ? manifest : { ...manifest, endToEnd }
    await writeJson(join(temporary, manifestName), complete)
    signal?.throwIfAborted()
    return complete
  })
}

const parts = ['transformer', 'text_encoder', 'vae', 'scheduler', 'tokenizer'] as const

interface Work {
  readonly name: QuantisableComponent
  readonly component: Component
  readonly format: BlockFormat
  readonly targets: readonly Target[]
}

function work(component: Component, plan: QuantisationPlan): readonly Work[] {
  const name = quantisableComponents.find((each) => each === component.name)
  const format = name && plan[name]
  if (!name || !format) return []
  if (quantisationOf(name, component.config)) {
    const expected = 'weights that are not quantised yet'
    throw new WeightsError({ violation: 'layout', file: component.configFile, expected, got: 'a quantization_config' })
  }
  const targets = distinctKeys(name, component.tensors.keys()).map((key): Target => ({ key, format: formatFor(name, key, format) ?? { kind: 'float32' } }))
  return [{ name, component, format, targets }]
}

function costOf({ key, shape, sums }: QuantisedLayer) {
  return { key, shape, ...weightCost(sums) }
}

const weightCost = ({ original, quantised, product, error }: WeightSums): WeightCost => ({
  relativeError: original === 0 ? 0 : Math.sqrt(error / original),
  cosine: original === 0 || quantised === 0 ? 1 : product / Math.sqrt(original * quantised),
})

function componentCost(layers: readonly QuantisedLayer[], { bits, blockSize }: BlockFormat, sizeBytes: number): ComponentCost {
  const total = weightCost(layers.map(({ sums }) => sums).reduce(addSums, noWeights))
  return { bits, group_size: blockSize, sizeBytes, ...total, layers: layers.map((layer) => ({ bits, ...costOf(layer) })) }
}

async function refuseTaken(folder: string): Promise<void> {
  const found = await stat(folder).catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT')) return undefined
    return explained(folder, 'a path to write a checkpoint to', Promise.reject(error))
  })
  if (!found) return
  const got = found.isDirectory() ? 'a folder' : 'a file'
  throw new WeightsError({ violation: 'unwritable', file: folder, expected: 'a path where nothing is', got })
}

interface Copy {
  readonly file: string
  readonly target: string
  readonly sizeBytes: number
}

/**
 * A folder's files under their names there, though they may be links into a cache of blobs: weights are linked, since nobody
 * changes them in place.
 * @returns what is left to be copied: the rest, which people edit, and weights that the file system does not link
 */
async function takeOver(from: string, to: string, names = /\.(?:safetensors|json|model|txt)$/): Promise<Copy[]> {
  const copies: Copy[] = []
  for (const name of await readdir(from)) {
    if (!names.test(name)) continue
    const [file, target] = [await realpath(join(from, name)), join(to, name)]
    const found = await stat(file)
    if (!found.isFile()) continue
    if (!(name.endsWith('.safetensors') && (await isLinked(file, target)))) copies.push({ file, target, sizeBytes: found.size })
  }
  return copies
}

const isLinked = (file: string, target: string): Promise<boolean> =>
  link(file, target).then(
    () => true,
    () => false,
  )

/** What an earlier quantisation of other components said of them. */
async function earlierCosts(folder: string): Promise<QuantisationManifest['components']> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, manifestName), 'utf8')) as QuantisationManifest
    return manifest.components
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return {}
    throw new WeightsError({
      violation: 'json',
      file: join(folder, manifestName),
      expected: `the manifest of ${basename(folder)}`,
      got: error instanceof Error ? error.message : String(error),
    })
  }
}
