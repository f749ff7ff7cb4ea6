import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeSyntheticCheckpoint } from '../../bench/synthetic-checkpoint.ts'
import { Model } from '../../src/engine/model.ts'
import { float32, readFixture } from '../safetensors.ts'
import { smallCheckpoint } from './small-checkpoint.ts'

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

test('weights keep the size of what passes through: 1 / √fan-in for products, about one for norms', () => {
  const text = readFixture(join(folder, 'first', weightFiles[1]!))
  const feedForward = float32(text, 'encoder.block.1.layer.1.DenseReluDense.wo.weight')
  expect(deviation(feedForward) * Math.sqrt(48)).toBeCloseTo(1, 1)
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
  const wide = { ...smallCheckpoint.textEncoder, vocab_size: 10_000 } // 320,000 values, a chunk holds 262,144
  await writeSyntheticCheckpoint(join(folder, 'wide'), { ...smallCheckpoint, textEncoder: wide })
  const embedding = float32(readFixture(join(folder, 'wide', weightFiles[1]!)), 'shared.weight')
  expect(embedding).toHaveLength(320_000)
  expect(deviation(embedding.subarray(2 ** 18))).toBeCloseTo(32 ** -0.5, 2)
  expect(embedding.subarray(2 ** 18, 2 ** 18 + 64)).not.toEqual(embedding.subarray(0, 64))
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
