import { describe, expect, test } from 'vitest'
import { float32, Session, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { pixart, readPixArtConfig } from '../../src/models/pixart.ts'
import { blockwiseGraphs, blockwiseStep } from '../../src/training/blockwise.ts'
import { noiseLossOf, stepOf, transformerStep } from '../../src/training/gradient-graphs.ts'
import {
  defaultTargets,
  isLoraKey,
  loraKey,
  loraScale,
  loraShapes,
  planLora,
  startLora,
  withLora,
  type Adapter,
  type LoraOptions,
} from '../../src/training/lora.ts'
import { noise } from '../graph/gradient/differences.ts'
import { component } from '../models/golden.ts'
import { difference } from '../safetensors.ts'
import {
  goldenWeights,
  latentsOf,
  ownWeights,
  process,
  trainingReferences,
  transformerFeeds,
  type Feeds,
} from './golden-batch.ts'

const variant = 'tiny-1024-ms'
const config = readPixArtConfig((await component(variant, 'transformer')).config)
const references = trainingReferences(variant)
const weights = await goldenWeights(variant, 'transformer')
const feeds = transformerFeeds(references, config, latentsOf(references))
const loss = { kind: 'variational' } as const

const options: LoraOptions = {
  rank: 4,
  alpha: 6,
  targets: [...defaultTargets, 'ff.net.0.proj', 'ff.net.2', 'proj_out'],
}
const model = pixart(config, 'train')
const adapter = planLora(model, options)
const scale = loraScale(adapter)

const prefixes = Array.from({ length: config.layers }, (_, layer) => `transformer_blocks.${layer}.`)
const inEveryBlock =
  (adapter: Adapter) =>
  (part: Graph): Graph =>
    withLora(part, adapter, part.name === 'pixart_block' ? { prefixes } : {})

/** Both halves at random, so that neither one's gradient is zero. */
const adapterWeights = new Map(
  [...loraShapes(adapter)].map(([key, [rows = 0, columns = 0]], i) => [
    key,
    float32(
      noise(rows * columns, i + 1).map((value) => value / 4),
      rows,
      columns,
    ),
  ]),
)
const all = new Map<string, Tensor>([...weights, ...adapterWeights])

const floats = (tensor: Tensor | undefined): Float32Array => {
  if (tensor?.dtype !== 'float32') throw new Error('expected float32')
  return tensor.data
}

async function run(graph: Graph, given: Feeds = feeds): Promise<Record<string, Tensor>> {
  const session = await Session.open(graph, 'inputs', { provider: 'cpu', threads: 1 })
  const names = new Set(session.graph.inputs.map(({ name }) => name))
  const own = Object.entries({ ...ownWeights(graph, all), ...given }).filter(([name]) => names.has(name))
  const outputs = await session.run(Object.fromEntries(own))
  await session.close()
  return outputs
}

/** (n, m) · (m, p), either transposed, in double precision. */
function product(
  left: { readonly data: ArrayLike<number>; readonly rows: number; readonly columns: number },
  right: { readonly data: ArrayLike<number>; readonly rows: number; readonly columns: number },
  at: (i: number, k: number, j: number) => readonly [number, number],
  [n, m, p]: readonly [number, number, number],
): Float64Array {
  return Float64Array.from({ length: n * p }, (_, element) => {
    const [i, j] = [Math.floor(element / p), element % p]
    let sum = 0
    for (let k = 0; k < m; k++) {
      const [l, r] = at(i, k, j)
      sum += left.data[l]! * right.data[r]!
    }
    return sum
  })
}

/** W + scale · B·A for every adapted weight. */
function mergedWeights(): Map<string, Tensor<'float32'>> {
  const merged = new Map(weights)
  for (const [module, size] of adapter.modules) {
    const [A, B] = [floats(all.get(loraKey(module, 'A'))), floats(all.get(loraKey(module, 'B')))]
    const { rank } = adapter
    const change = product(
      { data: B, rows: size.out, columns: rank },
      { data: A, rows: rank, columns: size.in },
      (i, k, j) => [i * rank + k, k * size.in + j],
      [size.out, rank, size.in],
    )
    const weight = weights.get(`${module}.weight`)!
    merged.set(`${module}.weight`, {
      ...weight,
      data: weight.data.map((value, i) => value + scale * change[i]!),
    })
  }
  return merged
}

describe('the modules that get an adapter', () => {
  test('are by default the projections of both attentions of every block', () => {
    const { modules } = planLora(model, { rank: 2, alpha: 2, targets: defaultTargets })
    expect(modules.size).toBe(config.layers * 8)
    expect(modules.get('transformer_blocks.1.attn2.to_out.0')).toEqual({
      in: config.heads * config.headWidth,
      out: config.heads * config.headWidth,
    })
  })

  test('that are not there are named, with those that are', () => {
    const plan = (targets: readonly string[]) => () => planLora(model, { rank: 2, alpha: 2, targets })
    expect(plan(['to_q', 'to_qkv'])).toThrow(
      /expected ends of module names among .*attn1\.to_q, .*ff\.net\.0\.proj, .*proj_out.*; got to_qkv$/,
    )
    expect(plan(['attn1'])).toThrow('got attn1')
    expect(plan([])).toThrow('got none')
    expect(() => planLora(model, { rank: 0, alpha: 1, targets: ['to_q'] })).toThrow('rank: expected')
    expect(() => planLora(model, { rank: 1, alpha: 0, targets: ['to_q'] })).toThrow('alpha: expected')
  })
})

describe('what training starts from', () => {
  test('leaves the model as it is', async () => {
    const start = startLora(adapter, 7)
    const adapted = withLora(model, adapter)
    const given = Object.fromEntries(
      [...start].map(([key, data]) => [key, float32(data, ...loraShapes(adapter).get(key)!)]),
    )
    const [plain, same] = [await run(model), await run(adapted, { ...feeds, ...given })]
    expect(difference(floats(same.output), floats(plain.output)).relative).toBeLessThanOrEqual(1e-6)
    expect(
      [...start].filter(([key]) => key.endsWith('B.weight')).every(([, data]) => data.every((x) => x === 0)),
    ).toBe(true)
  })

  test('is uniform within one over the root of the width, and follows from seed and key', () => {
    const wide = { ...adapter, rank: 64 }
    const key = loraKey('transformer_blocks.0.attn1.to_q', 'A')
    const bound = 1 / Math.sqrt(config.heads * config.headWidth)
    const values = startLora(wide, 7).get(key)!
    expect(Math.max(...values)).toBeLessThan(bound)
    expect(Math.max(...values)).toBeGreaterThan(0.99 * bound)
    expect(Math.min(...values)).toBeLessThan(-0.99 * bound)
    const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length
    expect(variance / (bound ** 2 / 3)).toBeCloseTo(1, 1)
    expect(startLora(wide, 7).get(key)).toEqual(values)
    expect(startLora(wide, 8).get(key)).not.toEqual(values)
    expect(startLora(planLora(model, { ...options, targets: ['attn1.to_q'] }), 7).get(key)).toEqual(
      startLora(adapter, 7).get(key),
    )
  })
})

test.each(['train', 'serve', 'plain'] as const)(
  'a model with an adapter computes what it does with the adapter in its weights: %s',
  async (lowering) => {
    const source = pixart(config, lowering)
    const beside = await run(withLora(source, adapter))
    const within = await run(source, { ...feeds, ...ownWeights(source, mergedWeights()) })
    const without = await run(source)
    expect(difference(floats(beside.output), floats(within.output)).relative).toBeLessThanOrEqual(1e-5)
    expect(difference(floats(beside.output), floats(without.output)).relative).toBeGreaterThan(0.1)
  },
)

describe('gradients', () => {
  const step = stepOf(noiseLossOf(withLora(model, adapter), process, loss), { trainable: isLoraKey })

  test('are of the adapter alone, and the frozen weights cost none', () => {
    const names = Object.keys(step.outputs).filter((name) => name.startsWith('grad.'))
    expect(names.toSorted()).toEqual([...adapterWeights.keys()].map((key) => `grad.${key}`).toSorted())
    const whole = stepOf(noiseLossOf(withLora(model, adapter), process, loss))
    const products = ({ nodes }: Graph) => nodes.filter(({ operator }) => operator === 'Gemm').length
    const frozen = whole.parameters.filter(({ name, shape }) => !isLoraKey(name) && shape.length === 2)
    expect(products(step)).toBeLessThan(products(whole) - adapter.modules.size)
    expect(frozen.length).toBeGreaterThan(adapter.modules.size)
  })

  test('follow from the gradient of the whole weight: dB = s·dW·Aᵀ, dA = s·Bᵀ·dW', async () => {
    const outputs = await run(step)
    const full = transformerStep(config, process, loss)
    const ofWeights = await run(full, { ...feeds, ...ownWeights(full, mergedWeights()) })
    const { rank } = adapter
    let worst = 0
    for (const [module, size] of adapter.modules) {
      const change = { data: floats(ofWeights[`grad.${module}.weight`]), rows: size.out, columns: size.in }
      const A = { data: floats(all.get(loraKey(module, 'A'))), rows: rank, columns: size.in }
      const B = { data: floats(all.get(loraKey(module, 'B'))), rows: size.out, columns: rank }
      const ofB = product(change, A, (i, k, j) => [i * size.in + k, j * size.in + k], [
        size.out,
        size.in,
        rank,
      ])
      const ofA = product(B, change, (i, k, j) => [k * rank + i, k * size.in + j], [rank, size.out, size.in])
      for (const [half, expected] of [
        ['A', ofA],
        ['B', ofB],
      ] as const) {
        const actual = floats(outputs[`grad.${loraKey(module, half)}`])
        worst = Math.max(
          worst,
          difference(
            actual,
            expected.map((value) => scale * value),
          ).relative,
        )
      }
    }
    expect(worst).toBeLessThanOrEqual(1e-5)
  })

  test('are what central differences of the loss are', async () => {
    // The bound's gradient is by intention not its derivative: the mean is detached.
    const plain = stepOf(noiseLossOf(withLora(model, adapter), process, { kind: 'mse' }), {
      trainable: isLoraKey,
    })
    const session = await Session.open(plain, 'inputs', { provider: 'cpu', threads: 1 })
    const own = { ...feeds, ...ownWeights(plain, all) }
    const outputs = await session.run(own)
    for (const half of ['A', 'B'] as const) {
      const key = loraKey('transformer_blocks.0.attn2.to_k', half)
      const [tensor, gradient] = [adapterWeights.get(key)!, floats(outputs[`grad.${key}`])]
      const norm = Math.hypot(...gradient)
      const lossAt = async (distance: number): Promise<number> => {
        const moved = tensor.data.map((value, i) => value + (distance * gradient[i]!) / norm)
        return floats((await session.run({ ...own, [key]: { ...tensor, data: moved } })).loss)[0]!
      }
      const [h, inner] = [0.05, [] as number[]]
      for (const distance of [-2 * h, -h, h, 2 * h]) inner.push(await lossAt(distance))
      const [a, b, c, d] = inner as [number, number, number, number]
      const slope = (8 * (c - b) - (d - a)) / (12 * h)
      expect(Math.abs(slope / norm - 1)).toBeLessThanOrEqual(1e-3)
    }
    await session.close()
  })

  test('block by block are those of all at once', async () => {
    const expected = await run(step)
    const graphs = blockwiseGraphs(config, process, {
      ...loss,
      trainable: isLoraKey,
      adapt: inEveryBlock(adapter),
    })
    const { terms, gradients } = await blockwiseStep(
      graphs,
      feeds as Readonly<Record<string, Tensor<'float32'>>>,
      async (part, given, prefix) => {
        const own = part.parameters.map(({ name }) => [name, all.get(prefix + name)!] as const)
        const outputs = await run(part, { ...given, ...Object.fromEntries(own) })
        return Object.fromEntries(
          Object.entries(outputs).map(([name, tensor]) => [name, float32(floats(tensor), ...tensor.dims)]),
        )
      },
    )
    expect(difference(floats(terms.loss), floats(expected.loss)).relative).toBeLessThanOrEqual(1e-6)
    expect([...gradients.keys()].toSorted()).toEqual([...adapterWeights.keys()].toSorted())
    for (const [key, { data }] of gradients)
      expect(difference(data, floats(expected[`grad.${key}`])).relative).toBeLessThanOrEqual(1e-5)
  })

  test('block by block need the same modules in every block', () => {
    const uneven = planLora(model, { rank: 2, alpha: 2, targets: ['transformer_blocks.1.attn1.to_q'] })
    const build = () => blockwiseGraphs(config, process, { ...loss, adapt: inEveryBlock(uneven) })
    expect(build).toThrow(/expected the same in every block, got 1 of 2 blocks with one at attn1\.to_q/)
  })
})
