import { expect, test } from 'vitest'
import { floorOf, operationsOf, sizesOf } from '../../../bench/model/matrix-products.ts'
import { float32, Session } from '../../../src/engine/session.ts'
import { pixartParts, readPixArtConfig } from '../../../src/models/pixart.ts'
import { t5Encoder } from '../../../src/models/t5.ts'
import { readVaeConfig, vaeDecoder } from '../../../src/models/vae.ts'
import { component } from '../../models/golden.ts'

const t5 = {
  vocabulary: 50,
  width: 24,
  heads: 3,
  headWidth: 4,
  feedForwardWidth: 40,
  layers: 2,
  positionBuckets: 32,
  maxDistance: 128,
  epsilon: 1e-6,
}

test('operations: two for each number of a weight and row, and for each score and number of a head twice', () => {
  const [rows, length, inner] = [3, 7, t5.heads * t5.headWidth]
  const linear = rows * length * (4 * t5.width * inner + 3 * t5.width * t5.feedForwardWidth)
  const attention = rows * length * length * inner * 2
  const sizes = { B: rows, T: length }
  expect(operationsOf(t5Encoder(t5, 'serve'), sizes)).toBe(2 * t5.layers * (linear + attention))
  expect(operationsOf(t5Encoder(t5, 'plain'), sizes)).toBe(2 * t5.layers * (linear + attention))
})

test('operations of a convolution: two for each number of the kernel and position', async () => {
  const config = {
    ...readVaeConfig((await component('tiny-512', 'vae')).config),
    channels: [32],
    layersPerBlock: 0,
  }
  const graph = vaeDecoder(config, 'serve')
  const [positions, c] = [4 * 6, 32]
  const convolutions = 4 * 4 + 9 * 4 * c + 4 * 9 * c * c + 2 * 9 * c * c + 9 * c * 3
  const attention = 4 * c * c + 2 * positions * c
  expect(operationsOf(graph, { B: 1, h: 4, w: 6 })).toBe(2 * positions * (convolutions + attention))
})

test('the floor of a graph has all of its operations, runs on its weights, and gives numbers', async () => {
  const { config, tensors } = await component('tiny-512', 'transformer')
  const { step } = pixartParts(readPixArtConfig(config), 'serve')
  const sizes = { R: 2, N: 24, T: 10 }
  const floor = floorOf(step, sizes)
  expect(operationsOf(floor.graph, {})).toBe(operationsOf(step, sizes))
  const session = await Session.open(floor.graph, tensors, { provider: 'cpu', threads: 1 })
  const { ends } = await session.run(floor.feeds)
  await session.close()
  const numbers = Array.from(ends?.data ?? [], Number)
  expect(numbers.length).toBeGreaterThan(0)
  expect(numbers.every((end) => Number.isFinite(end) && end !== 0)).toBe(true)
})

test('scores beyond a bound are computed by blocks of queries', () => {
  const { graph } = floorOf(t5Encoder(t5, 'serve'), { B: 2, T: 40 }, 2 * t5.heads * 40 * 16)
  const products = graph.nodes.filter(({ operator }) => operator === 'MatMul')
  const scores = products.map(({ outputs }) => outputs[0]?.shape).filter((shape) => shape?.[2] === 40)
  const queries = scores.map((shape) => shape?.[1])
  expect(new Set(queries)).toEqual(new Set([16, 8]))
  expect(queries.filter((count) => count === 8)).toHaveLength(t5.layers)
})

test('sizes are read off the tensors that are fed', () => {
  const feeds = { input_ids: float32(new Float32Array(6), 2, 3), mask: float32(new Float32Array(6), 2, 3) }
  expect(sizesOf(t5Encoder(t5, 'serve'), feeds)).toEqual({ B: 2, T: 3 })
})
