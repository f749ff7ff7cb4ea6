/** Writes a model's weights anew, some of its matrices in blocks of 4 or 8 bits: a shard at a time, so that a model may be far larger than memory. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { convert } from './cast.ts'
import type { Component } from './checkpoint.ts'
import { arrayOf, bytesPerElement, sizeBytesOf, type Dtype, type FloatDtype } from './dtypes.ts'
import { WeightsError } from './errors.ts'
import { toFloat32 } from './floats.ts'
import { writeJson } from './folder-writer.ts'
import {
  addSums,
  blocksPerRow,
  emptyRows,
  noWeights,
  packedBytes,
  partKeys,
  quantiseRows,
  type BlockFormat,
  type QuantisedRows,
  type WeightSums,
} from './quantisation.ts'
import { isFloatLocation, readChunks, type TensorLocation } from './safetensors.ts'
import { writeSafetensors, type TensorSource } from './safetensors-writer.ts'
import { cutIntoShards, shardIndex, shardName } from './shard-plan.ts'

/** How a tensor is to be stored. */
export type TargetFormat =
  { readonly kind: 'float32' } | { readonly kind: 'float16' } | ({ readonly kind: 'blocks' } & BlockFormat)

export interface Target {
  readonly key: string
  readonly format: TargetFormat
}

export interface QuantisedLayer {
  readonly key: string
  readonly shape: readonly number[]
  readonly sums: WeightSums
}

export interface QuantiseOptions {
  readonly onLayer?: ((layer: QuantisedLayer) => void) | undefined
  /** Ends the work between two pieces of a tensor. */
  readonly signal?: AbortSignal | undefined
  /** A shard with its scales and codes is held in memory while it is made. */
  readonly maxShardBytes?: number | undefined
}

interface Planned extends Target {
  readonly location: TensorLocation<FloatDtype>
  /** What takes its place. */
  readonly parts: readonly {
    readonly name: string
    readonly dtype: Dtype
    readonly shape: readonly number[]
  }[]
  readonly sizeBytes: number
}

/** Of what a checkpoint with these targets would hold, in bytes. */
export const quantisedBytes = (component: Component, targets: readonly Target[]): number =>
  totalBytes(targets.map((target) => plan(component, target)))

/**
 * Makes a folder with config.json and the weights, as one file or as shards with an index.
 * @param stem the files' name without `.safetensors`
 * @returns the layers that were quantised
 * @throws {WeightsError} a weight that is no finite number or passes what its new type holds; a disk that takes no more
 */
export async function writeQuantisedComponent(
  component: Component,
  folder: string,
  {
    stem,
    config,
    targets,
  }: { readonly stem: string; readonly config: unknown; readonly targets: readonly Target[] },
  { onLayer, signal, maxShardBytes = 500e6 }: QuantiseOptions = {},
): Promise<readonly QuantisedLayer[]> {
  await mkdir(folder)
  await writeJson(join(folder, 'config.json'), config)
  const planned = targets.map((target) => plan(component, target))
  // The parts of a matrix stay together.
  const shards = cutIntoShards(planned, ({ sizeBytes }) => sizeBytes, maxShardBytes)
  const layers: QuantisedLayer[] = []
  const weightMap = new Map<string, string>()
  for (const [index, shard] of shards.entries()) {
    const file = shardName(stem, index, shards.length)
    const sources: [string, TensorSource][] = []
    for (const each of shard) {
      signal?.throwIfAborted()
      for (const { name } of each.parts) weightMap.set(name, file)
      if (each.format.kind === 'blocks') {
        const { rows, layer } = await quantiseMatrix(each, each.format, signal)
        layers.push(layer)
        onLayer?.(layer)
        sources.push(...sourcesOf(each, rows))
      } else {
        const to = each.format.kind === 'float16' ? 'F16' : 'F32'
        const data = convert({ name: each.key, from: each.location, to })
        sources.push([each.key, { dtype: to, shape: each.location.shape, data }])
      }
    }
    await writeSafetensors(join(folder, file), sources, new Map([['format', 'pt']]), signal)
  }
  if (shards.length > 1)
    await writeJson(
      join(folder, `${stem}.safetensors.index.json`),
      shardIndex(weightMap, totalBytes(planned)),
    )
  return layers
}

function plan({ tensors, folder }: Component, { key, format }: Target): Planned {
  const location = tensors.get(key)
  if (!location || !isFloatLocation(location)) {
    const got = location?.dtype ?? 'no such tensor'
    throw new WeightsError({
      violation: 'dtype',
      file: folder,
      tensor: key,
      expected: 'a tensor of floats',
      got,
    })
  }
  const { shape } = location
  const parts = format.kind === 'blocks' ? blockParts(key, shape, format) : []
  if (format.kind !== 'blocks')
    parts.push({ name: key, dtype: format.kind === 'float16' ? 'F16' : 'F32', shape })
  const sizeBytes = parts.reduce((sum, part) => sum + (sizeBytesOf(part.dtype, part.shape) ?? 0), 0)
  return { key, format, location, parts, sizeBytes }
}

function blockParts(key: string, shape: readonly number[], format: BlockFormat): Planned['parts'][number][] {
  const [rows = 0, columns = 0] = shape
  if (shape.length !== 2) throw new RangeError(`${key}: a matrix has two axes, not ${shape.length}`)
  const { bits, blockSize } = format
  const blocks = blocksPerRow(columns, format)
  const [codes, scales, zeroPoints] = partKeys(key)
  return [
    { name: codes, dtype: 'U8', shape: [rows, blocks, packedBytes(blockSize, bits)] },
    { name: scales, dtype: 'F16', shape: [rows, blocks] },
    { name: zeroPoints, dtype: 'U8', shape: [rows, packedBytes(blocks, bits)] },
  ]
}

function sourcesOf(
  { parts }: Planned,
  { codes, scales, zeroPoints }: QuantisedRows,
): [string, TensorSource][] {
  const arrays = [codes, scales, zeroPoints]
  return parts.map(({ name, dtype, shape }, i) => [name, { dtype, shape, data: arrays[i] } as TensorSource])
}

const chunkBytes = 4 * 2 ** 20

async function quantiseMatrix(
  { key, location }: Planned,
  format: BlockFormat,
  signal: AbortSignal | undefined,
): Promise<{ readonly rows: QuantisedRows; readonly layer: QuantisedLayer }> {
  const { dtype, shape, file } = location
  const [count = 0, columns = 0] = shape
  const rowBytes = columns * bytesPerElement[dtype]
  const rows = emptyRows(count, columns, format)
  let sums = noWeights
  let done = 0
  for await (const chunk of readChunks(location, Math.max(1, Math.floor(chunkBytes / rowBytes)) * rowBytes)) {
    signal?.throwIfAborted()
    const values = toFloat32(arrayOf(dtype, chunk.buffer))
    sums = addSums(sums, quantiseRows(values, columns, format, rows, done))
    done += values.length / columns
  }
  if (!Number.isFinite(sums.error)) {
    const expected = 'finite numbers, and blocks whose scale F16 can hold'
    throw new WeightsError({ violation: 'overflow', file, tensor: key, expected, got: 'others' })
  }
  return { rows, layer: { key, shape, sums } }
}

const totalBytes = (planned: readonly Planned[]): number =>
  planned.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
