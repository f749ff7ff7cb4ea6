import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { Model } from '../../src/engine/model.ts'
import { openComponent } from '../../src/weights/checkpoint.ts'
import { openSafetensors, readFloats, readTensor } from '../../src/weights/safetensors.ts'
import { float32, readFixture } from '../safetensors.ts'
import { smallCheckpoint } from '../bench/small-checkpoint.ts'

const weightFiles = [
  'transformer/diffusion_pytorch_model.safetensors',
  'text_encoder/model.safetensors',
  'vae/diffusion_pytorch_model.safetensors',
]

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'synthetic-'))
  await writeSyntheticCheckpoint(join(folder, 'first'), smallCheckpoint)
})
afterAll(() => rm(folder, { recursive: true }))

const hashes = (checkpoint: string): Promise<string[]> =>
  Promise.all(
    weightFiles.map(async (file) =>
      createHash('sha256')
        .update(await readFile(join(folder, checkpoint, file)))
        .digest('hex'),
    ),
  )

test('loads strictly, and what it computes is finite and neither dead nor blown up', async () => {
  const model = await Model.open('synthetic', join(folder, 'first'), {
    provider: 'cpu',
    threads: 1,
    cacheDir: join(folder, 'cache'),
    lowering: 'serve',
    onNote: (message) => expect.unreachable(message),
  })
  await model.load()
  try {
    expect(model.info).toMatchObject({ baseSize: 256, defaultScheduler: 'dpm++_2m' })
    const { ids, mask } = model.tokenizer.encode('a lighthouse', model.info.maxPromptTokens)
    expect(deviation(await model.encodeText(ids, mask, 1))).toBeCloseTo(1, 0)

    const size = { batch: 1, height: 8, width: 8 }
    const latents = Float32Array.from({ length: 4 * 8 * 8 }, (_, i) => Math.sin(i))
    expect(deviation(await model.decode(latents, size))).toBeGreaterThan(0.1)
    expect(deviation(await model.decode(latents, size))).toBeLessThan(10)
  } finally {
    await model.unload()
  }
})

test('the seed decides every byte', async () => {
  await writeSyntheticCheckpoint(join(folder, 'again'), smallCheckpoint)
  await writeSyntheticCheckpoint(join(folder, 'other'), { ...smallCheckpoint, seed: 8 })
  const first = await hashes('first')
  expect(await hashes('again')).toEqual(first)
  expect((await hashes('other')).filter((hash) => first.includes(hash))).toEqual([])
})

test('weights keep the size of what passes through: 1 / √fan-in for products, about one for norms and tokens', () => {
  const text = readFixture(join(folder, 'first', weightFiles[1]!))
  const feedForward = float32(text, 'encoder.block.1.layer.1.DenseReluDense.wo.weight')
  expect(deviation(feedForward) * Math.sqrt(48)).toBeCloseTo(1, 1)
  expect(deviation(float32(text, 'shared.weight'))).toBeCloseTo(1, 1)
  // Unscaled attention: 1 / √headWidth smaller.
  const queries = float32(text, 'encoder.block.0.layer.0.SelfAttention.q.weight')
  expect(deviation(queries) * Math.sqrt(32 * 8)).toBeCloseTo(1, 1)
  const norm = float32(text, 'encoder.final_layer_norm.weight')
  expect(norm.reduce((sum, value) => sum + value, 0) / norm.length).toBeCloseTo(1, 1)

  const kernel = float32(
    readFixture(join(folder, 'first', weightFiles[2]!)),
    'decoder.mid_block.resnets.0.conv1.weight',
  )
  expect(deviation(kernel) * Math.sqrt(8 * 9)).toBeCloseTo(1, 1)
})

test('a tensor larger than one chunk repeats nothing', async () => {
  const wide = { ...smallCheckpoint.textEncoder, vocab_size: 40_000 } // 1,280,000 values, a chunk holds 2²⁰
  await writeSyntheticCheckpoint(join(folder, 'wide'), { ...smallCheckpoint, textEncoder: wide })
  const embedding = float32(readFixture(join(folder, 'wide', weightFiles[1]!)), 'shared.weight')
  expect(embedding).toHaveLength(1_280_000)
  expect(deviation(embedding.subarray(2 ** 20))).toBeCloseTo(1, 2)
  expect(embedding.subarray(2 ** 20, 2 ** 20 + 64)).not.toEqual(embedding.subarray(0, 64))
})

test('of a matrix no row or column is another one over again, nor a multiple of it', () => {
  const text = readFixture(join(folder, 'first', weightFiles[1]!))
  const values = float32(text, 'shared.weight') // (2000, 32)
  const row = (i: number): Float32Array => values.subarray(32 * i, 32 * i + 32)
  const column = (i: number): Float32Array => Float32Array.from({ length: 2000 }, (_, j) => values[32 * j + i]!)
  let [rows, columns] = [0, 0]
  for (let i = 0; i < 500; i++)
    for (let j = 0; j < i; j++) rows = Math.max(rows, Math.abs(cosine(row(i), row(j))))
  for (let i = 0; i < 32; i++)
    for (let j = 0; j < i; j++) columns = Math.max(columns, Math.abs(cosine(column(i), column(j))))
  // Of 124,750 pairs of independent rows of 32 the largest is about √(2 · ln 124,750 / 32) = 0.86, of 496 columns 0.08.
  expect(rows).toBeLessThan(0.9)
  expect(columns).toBeLessThan(0.1)
})

test('in half precision a checkpoint holds the same values, rounded', async () => {
  await writeSyntheticCheckpoint(join(folder, 'f16'), { ...smallCheckpoint, dtype: 'F16' })
  await writeSyntheticCheckpoint(join(folder, 'bf16'), { ...smallCheckpoint, dtype: 'BF16' })
  const key = 'decoder.mid_block.resnets.0.conv1.weight'
  const whole = float32(readFixture(join(folder, 'first', weightFiles[2]!)), key)
  const tensorOf = async (checkpoint: string) =>
    (await openSafetensors(join(folder, checkpoint, weightFiles[2]!))).tensors.get(key)!
  const [half, brain] = [await tensorOf('f16'), await tensorOf('bf16')]
  expect([half.dtype, brain.dtype]).toEqual(['F16', 'BF16'])
  expect(await readTensor(half)).toEqual(new Float16Array(whole))
  const widened = await readFloats(brain)
  for (const [i, value] of whole.entries())
    expect(Math.abs(widened[i]! - value)).toBeLessThanOrEqual(Math.abs(value) / 2 ** 8)
  expect(
    JSON.parse(await readFile(join(folder, 'bf16/text_encoder/config.json'), 'utf8')),
  ).toHaveProperty('torch_dtype', 'bfloat16')
})

test('the text encoder is cut into shards as transformers cuts: in the order of its modules, each as full as may be', async () => {
  const maxShardBytes = 300_000
  await writeSyntheticCheckpoint(join(folder, 'shards'), { ...smallCheckpoint, maxShardBytes })
  const encoder = join(folder, 'shards', 'text_encoder')
  expect((await readdir(encoder)).sort()).toEqual([
    'config.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ])
  const index = JSON.parse(await readFile(join(encoder, 'model.safetensors.index.json'), 'utf8')) as {
    metadata: { total_size: number }
    weight_map: Record<string, string>
  }
  expect(Object.keys(index.weight_map)).toEqual(Object.keys(index.weight_map).sort())
  // 256,000 bytes of embedding and 512 of position biases; a layer has 4 × 4,096 of attention, 3 × 6,144 of feed-forward and
  // 2 × 128 of norms, of which one fits beside the embedding, and of the next one q and k.
  const first = Object.keys(index.weight_map).filter((key) => index.weight_map[key]!.includes('00001'))
  expect(first).toContain('encoder.block.1.layer.0.SelfAttention.k.weight')
  expect(first).not.toContain('encoder.block.1.layer.0.SelfAttention.v.weight')
  expect(first).not.toContain('encoder.final_layer_norm.weight')
  expect(index.metadata.total_size).toBe(256_000 + 512 + 2 * (4 * 4096 + 3 * 6144 + 2 * 128) + 128)

  const whole = await openComponent(join(folder, 'first', 'text_encoder'))
  const cut = await openComponent(encoder)
  expect(new Set(cut.tensors.keys())).toEqual(new Set(whole.tensors.keys()))
  for (const [key, location] of whole.tensors)
    expect(await readTensor(cut.tensors.get(key)!)).toEqual(await readTensor(location))
})

test('a folder with anything in it is left alone, and one that fails leaves nothing behind', async () => {
  const occupied = join(folder, 'occupied')
  await mkdir(occupied)
  await writeFile(join(occupied, 'notes.txt'), '')
  await expect(writeSyntheticCheckpoint(occupied, smallCheckpoint)).rejects.toThrow(
    'expected a folder that is empty or not there, got one with notes.txt in it',
  )
  const tokenizer = join(folder, 'no-such-tokenizer')
  await mkdir(join(folder, 'parent', 'fails'), { recursive: true })
  await expect(
    writeSyntheticCheckpoint(join(folder, 'parent', 'fails'), { ...smallCheckpoint, tokenizer }),
  ).rejects.toThrow('no-such-tokenizer')
  expect(await readdir(join(folder, 'parent'), { recursive: true })).toEqual(['fails'])
})

test('one that is ended half way leaves nothing behind', async () => {
  const controller = new AbortController()
  const onFile = ({ name }: { readonly name: string }): void => {
    if (name.startsWith('vae')) controller.abort(new Error('ended'))
  }
  const { signal } = controller
  const ended = join(folder, 'ended', 'checkpoint')
  await expect(writeSyntheticCheckpoint(ended, smallCheckpoint, { onFile, signal })).rejects.toThrow('ended')
  expect(await readdir(join(folder, 'ended'))).toEqual([])
})

test('a disk that is too small is refused before anything is written', async () => {
  const vast = { ...smallCheckpoint.textEncoder, vocab_size: 2 ** 45 }
  await expect(
    writeSyntheticCheckpoint(join(folder, 'vast'), { ...smallCheckpoint, textEncoder: vast }),
  ).rejects.toThrow(/vast: expected a disk with \d+ MiB free, got one with \d+ MiB/)
})

test('a configuration that the models do not cover is refused by its field', async () => {
  const transformer = { ...smallCheckpoint.transformer, cross_attention_dim: 25 }
  await expect(
    writeSyntheticCheckpoint(join(folder, 'wrong'), { ...smallCheckpoint, transformer }),
  ).rejects.toThrow('transformer config, cross_attention_dim: expected 24, got 25')
})

/** Root mean square around the mean; NaN where a value is. */
function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}
