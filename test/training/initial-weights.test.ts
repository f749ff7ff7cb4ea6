import { expect, test } from 'vitest'
import { normalNumbers, randomTransformer, randomVae } from '../../src/training/initial-weights.ts'
import { atOnce } from '../../src/training/tensors.ts'

const width = 64
const shapes = new Map<string, readonly number[]>([
  ['transformer_blocks.0.attn1.to_q.weight', [width, width]],
  ['transformer_blocks.0.attn1.to_q.bias', [width]],
  ['transformer_blocks.0.attn2.to_k.weight', [width, width]],
  ['transformer_blocks.0.attn2.to_out.0.weight', [width, width]],
  ['transformer_blocks.0.ff.net.0.proj.weight', [4 * width, width]],
  ['transformer_blocks.0.scale_shift_table', [6, width]],
  ['transformer_blocks.0.norm1.emb.timestep_embedder.linear_1.weight', [width, 256]],
  ['transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.weight', [width, 256]],
  ['transformer_blocks.0.norm1.linear.weight', [6 * width, width]],
  ['adaln_single.linear.weight', [6 * width, width]],
  ['proj_out.weight', [32, width]],
])

const largest = (values: Float32Array): number =>
  values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
const deviation = (values: Float32Array): number => Math.hypot(...values) / Math.sqrt(values.length)

test('a transformer begins as the code of PixArt-α and DiT initialises it', () => {
  const weights = atOnce(randomTransformer(shapes, 1))
  const of = (end: string): Float32Array => weights.get([...shapes.keys()].find((key) => key.endsWith(end))!)!
  // Glorot and Bengio: √(6 / (in + out)), uniform; q, k and v are one matrix there, and k and v of the text.
  for (const [end, outputs] of [
    ['attn1.to_q.weight', 3 * width],
    ['attn2.to_k.weight', 2 * width],
    ['ff.net.0.proj.weight', 4 * width],
  ] as const) {
    const bound = Math.sqrt(6 / (width + outputs))
    expect(largest(of(end))).toBeLessThanOrEqual(bound)
    expect(deviation(of(end))).toBeCloseTo(bound / Math.sqrt(3), 2)
  }
  expect(deviation(of('scale_shift_table'))).toBeCloseTo(1 / Math.sqrt(width), 1)
  for (const end of ['0.norm1.emb.timestep_embedder.linear_1.weight', 'adaln_single.linear.weight'])
    expect(deviation(of(end))).toBeCloseTo(0.02, 2)
  for (const end of ['to_q.bias', 'attn2.to_out.0.weight', 'norm1.linear.weight', 'proj_out.weight'])
    expect(largest(of(end))).toBe(0)
})

test('a DiT has one embedding of timestep and class, of which every block has a copy', () => {
  const weights = atOnce(randomTransformer(shapes, 1))
  const [first, second] = [0, 1].map((block) =>
    weights.get(`transformer_blocks.${block}.norm1.emb.timestep_embedder.linear_1.weight`),
  )
  expect(first).toEqual(second)
})

test('an autoencoder begins as PyTorch initialises its layers', () => {
  const layers = new Map([
    ['encoder.conv_in.weight', [8, 3, 3, 3]],
    ['encoder.conv_in.bias', [8]],
    ['encoder.conv_norm_out.weight', [8]],
    ['encoder.conv_norm_out.bias', [8]],
  ])
  const weights = atOnce(randomVae(layers, 1))
  const bound = 1 / Math.sqrt(27)
  expect(largest(weights.get('encoder.conv_in.weight')!)).toBeLessThanOrEqual(bound)
  expect(largest(weights.get('encoder.conv_in.weight')!)).toBeGreaterThan(0.9 * bound)
  expect(largest(weights.get('encoder.conv_in.bias')!)).toBeLessThanOrEqual(bound)
  expect([...weights.get('encoder.conv_norm_out.weight')!]).toEqual(Array.from({ length: 8 }, () => 1))
  expect(largest(weights.get('encoder.conv_norm_out.bias')!)).toBe(0)
})

test('a tensor depends on the seed and its key and on nothing else', () => {
  const key = 'transformer_blocks.0.ff.net.0.proj.weight'
  const alone = atOnce(randomTransformer(new Map([[key, shapes.get(key)!]]), 1)).get(key)
  expect(alone).toEqual(atOnce(randomTransformer(shapes, 1)).get(key))
  expect(alone).not.toEqual(atOnce(randomTransformer(shapes, 2)).get(key))
  const [one, other] = [normalNumbers('a'), normalNumbers('a')]
  expect(Array.from({ length: 5 }, one)).toEqual(Array.from({ length: 5 }, other))
})
