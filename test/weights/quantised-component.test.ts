import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { TorchGenerator } from '../../src/diffusion/noise.ts'
import { openComponent, type Component } from '../../src/weights/checkpoint.ts'
import { bfloat16ToFloat32, float32ToBfloat16 } from '../../src/weights/floats.ts'
import {
  quantisedBytes,
  writeQuantisedComponent,
  type Target,
} from '../../src/weights/quantised-component.ts'
import { readTensor } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { temporaryFolder } from './folder.ts'

const values = new Float32Array(40 * 96)
new TorchGenerator(1).fillNormal(values)
const bits = float32ToBfloat16(values)
const rounded = bfloat16ToFloat32(bits)
const asBfloat16: TensorSource = { dtype: 'BF16', shape: [40, 96], data: bits }
const asFloat32: TensorSource = { dtype: 'F32', shape: [40, 96], data: rounded }

async function component(tensors: Readonly<Record<string, TensorSource>>): Promise<Component> {
  const folder = join(await temporaryFolder(), 'model')
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{}')
  await writeSafetensors(join(folder, 'model.safetensors'), Object.entries(tensors))
  return openComponent(folder)
}

const targets: readonly Target[] = [
  { key: 'a', format: { kind: 'blocks', bits: 4, blockSize: 32 } },
  { key: 'b', format: { kind: 'blocks', bits: 8, blockSize: 32 } },
  { key: 'c', format: { kind: 'float16' } },
  { key: 'd', format: { kind: 'float32' } },
]

async function quantised(source: Component, maxShardBytes?: number) {
  const folder = join(await temporaryFolder(), 'model')
  await writeQuantisedComponent(source, folder, { stem: 'model', config: {}, targets }, { maxShardBytes })
  const written = await openComponent(folder)
  const contents = await Promise.all(
    [...written.tensors].map(
      async ([key, location]) => [key, location.dtype, await readTensor(location)] as const,
    ),
  )
  return { files: await readdir(folder), contents: contents.sort(([a], [b]) => (a < b ? -1 : 1)) }
}

test('bfloat16 weights become what their float32 values become', async () => {
  const [narrow, wide] = [asBfloat16, asFloat32].map((data) =>
    component({ a: data, b: data, c: data, d: data }),
  )
  const [fromNarrow, fromWide] = [await quantised(await narrow!), await quantised(await wide!)]
  expect(fromNarrow).toEqual(fromWide)
  expect(fromNarrow.contents.map(([key, dtype]) => `${key} ${dtype}`)).toEqual([
    'a U8',
    'a_scales F16',
    'a_zero_points U8',
    'b U8',
    'b_scales F16',
    'b_zero_points U8',
    'c F16',
    'd F32',
  ])
  expect(fromNarrow.contents[7]?.[2]).toEqual(rounded)
  expect(fromNarrow.contents[6]?.[2]).toEqual(new Float16Array(rounded))
})

test('shards with an index hold what one file holds, and are of the size that was foretold', async () => {
  const source = await component({ a: asFloat32, b: asFloat32, c: asFloat32, d: asFloat32 })
  const [whole, cut] = [await quantised(source), await quantised(source, 8000)]
  expect(whole.files).toEqual(['config.json', 'model.safetensors'])
  expect(cut.files).toEqual([
    'config.json',
    'model-00001-of-00003.safetensors',
    'model-00002-of-00003.safetensors',
    'model-00003-of-00003.safetensors',
    'model.safetensors.index.json',
  ])
  expect(cut.contents).toEqual(whole.contents)
  const sizeBytes = whole.contents.reduce((sum, [, , data]) => sum + data.byteLength, 0)
  expect(quantisedBytes(source, targets)).toBe(sizeBytes)
})

test('a weight that is no number is refused by key', async () => {
  const broken = new Float32Array(rounded)
  broken[1234] = Number.NaN
  const data: TensorSource = { dtype: 'F32', shape: [40, 96], data: broken }
  const source = await component({ a: data, b: asFloat32, c: asFloat32, d: asFloat32 })
  await expect(quantised(source)).rejects.toThrow(
    /tensor "a": expected finite numbers, and blocks whose scale F16 can hold/,
  )
})

test('tensors that are only converted are ended between two pieces as well', async () => {
  const source = await component({ a: asBfloat16, b: asBfloat16, c: asBfloat16, d: asBfloat16 })
  const folder = join(await temporaryFolder(), 'model')
  const controller = new AbortController()
  const writing = writeQuantisedComponent(
    source,
    folder,
    { stem: 'model', config: {}, targets: targets.toReversed() },
    {
      onLayer: ({ key }) => key === 'a' && controller.abort(new Error('ended')),
      signal: controller.signal,
    },
  )
  await expect(writing).rejects.toThrow('ended')
  expect(await readdir(folder)).toEqual(['config.json'])
})
