import { cp, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { reportCheckpoint } from '../../src/engine/checkpoint-report.ts'
import { decodeMemory } from '../../src/engine/memory-needs.ts'
import { writeQuantisedCheckpoint } from '../../src/models/quantised-checkpoint.ts'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { openCheckpoint } from '../../src/weights/checkpoint.ts'
import { partKeys } from '../../src/weights/quantisation.ts'
import { openSafetensors, readTensor } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { smallCheckpoint } from '../bench/small-checkpoint.ts'

let folder: string
let original: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'check-'))
  original = join(folder, 'original')
  await writeSyntheticCheckpoint(original, { ...smallCheckpoint, maxShardBytes: 300_000 })
})
afterAll(() => rm(folder, { recursive: true }))

async function copy(name: string): Promise<string> {
  const checkpoint = join(folder, name)
  await cp(original, checkpoint, { recursive: true })
  return checkpoint
}

async function edit(file: string, change: Readonly<Record<string, unknown>>): Promise<void> {
  const fields = JSON.parse(await readFile(file, 'utf8')) as object
  await writeFile(file, JSON.stringify({ ...fields, ...change }))
}

const transformerFile = 'transformer/diffusion_pytorch_model.safetensors'
const shard = 'text_encoder/model-00002-of-00002.safetensors'

describe('a complete checkpoint', () => {
  test('is told by family, size, parameters, dtypes and files', async () => {
    const report = await reportCheckpoint(original)
    expect(report).toMatchObject({ family: 'PixArt-α', baseSize: 256, problems: [] })
    expect(report.version).toMatch(/^[0-9a-f]{16}$/)
    const [transformer, text, vae] = report.components
    // 64,000 of embedding, 128 of position biases, 32 of the last norm, and the layers.
    const parameters = 2000 * 32 + 32 * 4 + 32 + 2 * (4 * 32 * 32 + 3 * 32 * 48 + 2 * 32)
    expect(text).toMatchObject({
      name: 'text_encoder',
      shape: '2 layers, width 32, 4 heads',
      parameters,
      storedBytes: { F32: 4 * parameters },
      files: ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'],
      servedBytes: 4 * parameters,
      convertedBytes: 0,
    })
    // The products' weights are copied; embedding, norms and position biases are read where they lie.
    expect(text?.memory).toEqual({
      privateBytes: 4 * 2 * (4 * 32 * 32 + 3 * 32 * 48),
      mappedBytes: 4 * (2000 * 32 + 32 * 4 + 32 + 2 * 2 * 32),
    })
    // Dropped captions' embedding, 120 tokens of 32, is in the file and not in the model.
    expect(transformer?.storedBytes.F32).toBe(4 * (transformer!.parameters + 120 * 32))
    expect(vae?.shape).toBe('4, 8, 8, 8 channels')
    expect(report.plan).toMatchObject({ fits: true, textEncoder: 'stays' })
    expect(report.work?.decode.map(({ side }) => side)).toEqual([512, 1024])
  })

  test('in bfloat16, what will be converted is counted in float32', async () => {
    const halved = join(folder, 'bf16')
    await writeSyntheticCheckpoint(halved, { ...smallCheckpoint, dtype: 'BF16' })
    const { components } = await reportCheckpoint(halved)
    for (const { parameters, convertedBytes, servedBytes } of components) {
      expect(convertedBytes).toBe(4 * parameters)
      expect(servedBytes).toBe(4 * parameters)
    }
  })
})

test('in float16 what is converted takes half of what it takes in float32', async () => {
  const [wide, narrow] = [
    await reportCheckpoint(original),
    await reportCheckpoint(original, { provider: 'cuda', precision: 'float16' }),
  ]
  expect(wide.served).toEqual({ provider: 'cpu', precision: 'float32' })
  expect(narrow.served).toEqual({ provider: 'cuda', precision: 'float16' })
  for (const [i, { servedBytes, convertedBytes }] of narrow.components.entries()) {
    expect(convertedBytes).toBeGreaterThan(0)
    expect(servedBytes).toBe(wide.components[i]!.servedBytes - convertedBytes)
  }
})

describe('what is wrong is named', () => {
  test('a truncated shard, by file and tensor', async () => {
    const checkpoint = await copy('truncated')
    const { size } = await stat(join(checkpoint, shard))
    await truncate(join(checkpoint, shard), size - 4)
    const { problems, version, plan } = await reportCheckpoint(checkpoint)
    expect(problems).toHaveLength(1)
    expect(problems[0]?.message).toMatch(
      /model-00002-of-00002\.safetensors: tensor "encoder\.final_layer_norm\.weight": expected bytes inside the file/,
    )
    expect([version, plan]).toEqual([undefined, undefined])
  })

  test('a missing key and a shape', async () => {
    const checkpoint = await copy('keys')
    const file = join(checkpoint, transformerFile)
    const tensors: [string, TensorSource][] = []
    for (const [key, location] of (await openSafetensors(file)).tensors) {
      if (key === 'proj_out.bias') continue
      const data = await readTensor(location)
      const shape = key === 'scale_shift_table' ? location.shape.toReversed() : location.shape
      tensors.push([key, { dtype: location.dtype, shape, data } as TensorSource])
    }
    await writeSafetensors(file, tensors)
    const { problems, components } = await reportCheckpoint(checkpoint)
    expect(problems).toHaveLength(1)
    expect(problems[0]?.file).toBe(join(checkpoint, 'transformer'))
    expect(problems[0]?.message).toContain('missing 1: proj_out.bias')
    expect(problems[0]?.message).toContain('misshapen 1: scale_shift_table [24, 2] instead of [2, 24]')
    // What is right is told all the same.
    expect(components.map(({ name }) => name)).toEqual(['text_encoder', 'vae'])
  })

  test('a part of a quantised matrix, whichever it is', async () => {
    const [key, dropped] = ['encoder.block.0.layer.0.SelfAttention.q.weight', join(folder, 'dropped')]
    const format = { bits: 4, blockSize: 32 } as const
    await writeQuantisedCheckpoint(await openCheckpoint(original), dropped, { text_encoder: format })
    const file = join(dropped, 'text_encoder/model.safetensors')
    const tensors = new Map<string, TensorSource>()
    for (const [name, location] of (await openSafetensors(file)).tensors) {
      const { dtype, shape } = location
      tensors.set(name, { dtype, shape, data: await readTensor(location) } as TensorSource)
    }
    for (const part of partKeys(key)) {
      await writeSafetensors(
        file,
        [...tensors].filter(([name]) => name !== part),
      )
      const { problems } = await reportCheckpoint(dropped)
      expect(problems.map(({ message }) => message)).toEqual([
        expect.stringContaining(`\n  missing 1: ${part}`),
      ])
      expect(problems[0]?.message).not.toContain('unexpected')
    }
  })

  test('everything at once, each by its file', async () => {
    const checkpoint = await copy('all')
    await truncate(join(checkpoint, shard), 100)
    await edit(join(checkpoint, 'text_encoder/config.json'), { feed_forward_proj: 'relu' })
    await edit(join(checkpoint, 'transformer/config.json'), { norm_type: 'layer_norm' })
    await edit(join(checkpoint, 'scheduler/scheduler_config.json'), { _class_name: 'Unknown' })
    await writeFile(join(checkpoint, 'tokenizer/spiece.model'), 'no tokenizer')
    await rm(join(checkpoint, 'vae/diffusion_pytorch_model.safetensors'))
    const { problems } = await reportCheckpoint(checkpoint)
    const messages = problems.map(({ message }) => message)
    for (const part of [
      'model-00002-of-00002.safetensors: expected a header inside the file',
      'text_encoder config, feed_forward_proj: expected "gated-gelu", got "relu"',
      'transformer config, norm_type: expected "ada_norm_single", got "layer_norm"',
      join('scheduler', 'scheduler_config.json'),
      join(checkpoint, 'tokenizer'),
      `${join(checkpoint, 'vae')}: expected diffusion_pytorch_model.safetensors`,
    ])
      expect(messages.filter((message) => message.includes(part))).toHaveLength(1)
    expect(problems).toHaveLength(6)
  })

  test('models that do not fit each other', async () => {
    const checkpoint = join(folder, 'strangers')
    const transformer = { ...smallCheckpoint.transformer, caption_channels: 64 }
    await writeSyntheticCheckpoint(checkpoint, { ...smallCheckpoint, transformer })
    const { problems } = await reportCheckpoint(checkpoint)
    expect(problems.map(({ message }) => message)).toEqual([
      `${join(checkpoint, 'transformer', 'config.json')}: transformer config, caption_channels: expected 32, which is the text encoder's d_model, got 64`,
    ])
  })
})

test('a limit that is too small is no fault of the checkpoint', async () => {
  const { problems, plan } = await reportCheckpoint(original, { limitBytes: 64 * 2 ** 20 })
  expect(problems).toEqual([])
  expect(plan?.fits).toBe(false)
})

test('the decoder of Stable Diffusion takes 3 GiB for a layer at 1024², and more that is not collected yet', () => {
  const sd = {
    imageChannels: 3,
    latentChannels: 4,
    channels: [128, 256, 512, 512],
    layersPerBlock: 2,
    groups: 32,
    scalingFactor: 0.18215,
  }
  const { wholeBytesPerPixel, tiledBytesPerPixel } = decodeMemory(sd)
  expect(wholeBytesPerPixel * 1024 ** 2).toBe(1.6 * 3 * 2 ** 30)
  // In strips the last part takes most: 128 channels of input, of each of two residual layers, and the picture.
  expect(tiledBytesPerPixel).toBe(4 * (128 + 2 * 128 + 3))
})
