import { expect, test } from 'vitest'
import { float32, int32 } from '../../src/engine/session.ts'
import { print } from '../../src/graph/print.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { positionBucket, readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { cases, component, parity, open, reference, references } from './golden.ts'

test.each(cases)('hidden states equal transformers: $variant, $lowering', async ({ variant, lowering }) => {
  const encoder = await component(variant, 'text_encoder')
  const session = await open(t5Encoder(readT5Config(encoder.config), lowering), encoder, { lowering })
  const golden = references(variant)
  const [ids, mask] = [reference(golden, 'tokens.ids'), reference(golden, 'tokens.mask')]
  const { hidden } = await session.run({
    input_ids: int32(Int32Array.from(ids.data), ...ids.shape),
    mask: float32(mask.data, ...mask.shape),
  })
  await session.close()
  const expected = reference(golden, 'text_encoder.hidden')
  expect(hidden?.dims).toEqual(expected.shape)
  expect(parity(hidden, expected)).toBe('within bounds')
})

test('padding does not reach the tokens: a prompt alone at its own length gives the same hidden states', async () => {
  const encoder = await component('tiny-512', 'text_encoder')
  const session = await open(t5Encoder(readT5Config(encoder.config), 'serve'), encoder, { lowering: 'serve' })
  const golden = references('tiny-512')
  const [ids, mask] = [reference(golden, 'tokens.ids'), reference(golden, 'tokens.mask')]
  const length = mask.data.subarray(0, 120).findIndex((value) => value === 0)
  const { hidden } = await session.run({
    input_ids: int32(Int32Array.from(ids.data.subarray(0, length)), 1, length),
    mask: float32(mask.data.subarray(0, length), 1, length),
  })
  await session.close()
  const expected = reference(golden, 'text_encoder.hidden')
  expect(length).toBeLessThan(120)
  const tokens = expected.data.subarray(0, length * (expected.shape[2] ?? 0))
  expect(parity(hidden, { data: tokens })).toBe('within bounds')
})

test('the graph expects exactly the tensors of the checkpoint', async () => {
  const { config, tensors } = await component('tiny-512', 'text_encoder')
  const expected = [...tensors].map(([name, { shape }]) => [name, shape])
  expect(new Map(parameterShapes(t5Encoder(readT5Config(config), 'plain')))).toEqual(new Map(expected as [string, number[]][]))
})

test('position buckets: exact up to 7, then logarithmic to 128, a half for each direction', () => {
  const config = { positionBuckets: 32, maxDistance: 128 }
  const bucket = (distance: number): number => positionBucket(distance, config)
  expect([0, -1, -7, -8, -11, -12, -15, -16, -22, -23, -31, -32, -45, -46, -63, -64, -90, -91, -127, -500].map(bucket)).toEqual([
    0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15,
  ])
  expect([1, 7, 8, 64, 500].map(bucket)).toEqual([17, 23, 24, 30, 31])
})

test('a configuration that the encoder does not cover is refused by field', async () => {
  const { config } = await component('tiny-512', 'text_encoder')
  expect(() => readT5Config({ ...config, feed_forward_proj: 'relu' })).toThrow(
    'text_encoder config, feed_forward_proj: expected "gated-gelu", got "relu"',
  )
  expect(() => readT5Config({ ...config, num_heads: '64' })).toThrow('num_heads: expected a whole number above 0, got "64"')
})

test.each(['serve', 'plain'] as const)('the graph as text: %s', async (lowering) => {
  const config = {
    vocabulary: 100,
    width: 16,
    heads: 2,
    headWidth: 4,
    feedForwardWidth: 24,
    layers: 1,
    positionBuckets: 8,
    maxDistance: 16,
    epsilon: 1e-6,
  }
  await expect(print(t5Encoder(config, lowering))).toMatchFileSnapshot(`dumps/t5-${lowering}.txt`)
})
