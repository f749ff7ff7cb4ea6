import { expect, test } from 'vitest'
import type { Graph, Node } from '../../src/graph/ir.ts'
import { pixartParts, readPixArtConfig } from '../../src/models/pixart.ts'
import { atPrecision } from '../../src/models/precision.ts'
import { readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { readVaeConfig, vaeDecoder } from '../../src/models/vae.ts'
import { component } from './golden.ts'

const dtypesOf = (graph: Graph): Map<string, string> =>
  new Map(graph.parameters.map(({ name, dtype }) => [name, dtype]))

const nodes = (graph: Graph, ...operators: string[]): readonly Node[] =>
  graph.nodes.filter(({ operator }) => operators.includes(operator))

const resultTypes = (found: readonly Node[]): Set<string | undefined> =>
  new Set(found.map(({ outputs }) => outputs[0]?.dtype))

test('float32 leaves a graph as it is', async () => {
  const graph = t5Encoder(readT5Config((await component('tiny-512', 'text_encoder')).config), 'serve')
  expect(atPrecision(graph, 'float32')).toBe(graph)
})

test('the text encoder keeps in float32 its residual stream, its norms and what leads back from the feed-forward layers', async () => {
  const { config } = await component('tiny-512', 'text_encoder')
  const graph = atPrecision(t5Encoder(readT5Config(config), 'serve'), 'float16')
  for (const [key, dtype] of dtypesOf(graph)) {
    const keeps = /layer_norm|\.wo\./.test(key)
    expect(`${key} ${dtype}`).toBe(`${key} ${keeps ? 'float32' : 'float16'}`)
  }
  expect(resultTypes(nodes(graph, 'SimplifiedLayerNormalization', 'Add').filter(({ outputs }) => outputs[0]?.dtype !== 'int64'))).toEqual(
    new Set(['float32']),
  )
  expect(resultTypes(nodes(graph, 'com.microsoft.MultiHeadAttention', 'com.microsoft.FastGelu'))).toEqual(new Set(['float16']))
})

test.each(['tiny-512', 'tiny-1024-ms'] as const)(
  'the transformer of %s keeps timesteps, positions, modulation and norms in float32',
  async (variant) => {
    const { config } = await component(variant, 'transformer')
    const { context, timing, step } = pixartParts(readPixArtConfig(config), 'serve')
    expect(new Set(dtypesOf(atPrecision(context, 'float16')).values())).toEqual(new Set(['float16']))
    expect(new Set(dtypesOf(atPrecision(timing, 'float16')).values())).toEqual(new Set(['float32']))
    const graph = atPrecision(step, 'float16')
    for (const [key, dtype] of dtypesOf(graph)) {
      // The kernels that are put in another order first are converted as the model is loaded.
      if (/^pos_embed|^proj_out/.test(key)) continue
      expect(`${key} ${dtype}`).toBe(`${key} ${key.endsWith('scale_shift_table') ? 'float32' : 'float16'}`)
    }
    expect(resultTypes(nodes(graph, 'LayerNormalization', 'Sin', 'Cos', 'Split'))).toEqual(new Set(['float32']))
    expect(resultTypes(nodes(graph, 'Gemm', 'com.microsoft.MultiHeadAttention'))).toEqual(new Set(['float16']))
  },
)

test('the decoder sums the statistics of its norms in float32 and convolves in float16', async () => {
  const { config } = await component('tiny-512', 'vae')
  const graph = atPrecision(vaeDecoder(readVaeConfig(config), 'serve'), 'float16')
  expect(resultTypes(nodes(graph, 'ReduceMean'))).toEqual(new Set(['float32']))
  expect(resultTypes(nodes(graph, 'Conv'))).toEqual(new Set(['float16']))
  expect(Object.values(graph.outputs).map(({ dtype }) => dtype)).toEqual(['float32'])
})
