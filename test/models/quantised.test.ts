/** Products with matrices in blocks, held against float64 products with what the blocks stand for. */
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { TorchGenerator } from '../../src/diffusion/noise.ts'
import { float32, int32, Session } from '../../src/engine/session.ts'
import { symbol } from '../../src/graph/dimension.ts'
import { graph, input, type Graph } from '../../src/graph/ir.ts'
import { Scope, type WeightFormat, type WeightStorage } from '../../src/graph/scope.ts'
import { embedding, linear } from '../../src/models/layers.ts'
import { quantisationOf, weightStorage } from '../../src/models/weight-storage.ts'
import { dequantiseRows, emptyRows, partKeys, quantiseRows, type BlockFormat } from '../../src/weights/quantisation.ts'
import { openSafetensors, type TensorLocation } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { temporaryFolder } from '../weights/folder.ts'

function normal(count: number, seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count)
  new TorchGenerator(seed).fillNormal(values)
  return values
}

interface Layer {
  readonly N: number
  readonly K: number
  readonly format: BlockFormat
}

/** A layer `proj` of these sizes with its bias, on disk as a checkpoint has it. */
async function writeLayer({ N, K, format }: Layer) {
  const rows = emptyRows(N, K, format)
  quantiseRows(normal(N * K, 1), K, format, rows, 0)
  const blocks = Math.ceil(K / format.blockSize)
  const [codes, scales, zeroPoints] = partKeys('proj.weight')
  const bias = normal(N, 2)
  const sources: [string, TensorSource][] = [
    [codes, { dtype: 'U8', shape: [N, blocks, rows.codes.length / N / blocks], data: rows.codes }],
    [scales, { dtype: 'F16', shape: [N, blocks], data: rows.scales }],
    [zeroPoints, { dtype: 'U8', shape: [N, rows.zeroPoints.length / N], data: rows.zeroPoints }],
    ['proj.bias', { dtype: 'F32', shape: [N], data: bias }],
  ]
  const file = join(await temporaryFolder(), 'model.safetensors')
  await writeSafetensors(file, sources)
  return { tensors: (await openSafetensors(file)).tensors, matrix: dequantiseRows(rows, K, format), bias }
}

interface Products {
  readonly kernels: WeightStorage['kernels']
  readonly activations: 'float32' | 'int8'
}

function layerGraph({ N, K, format }: Layer, { kernels, activations }: Products): Graph {
  const formats = new Map<string, WeightFormat>([['proj.weight', { kind: 'blocks', ...format, activations }]])
  const scope = Scope.root('float32', { formats, kernels }).at('proj')
  const x = input('x', 'float32', [symbol('B'), symbol('T'), K])
  return graph('layer', [x], { y: linear(scope, x, N) })
}

async function run(
  of: Graph,
  tensors: ReadonlyMap<string, TensorLocation>,
  batches: readonly Float32Array[],
  threads = 2,
): Promise<readonly Float32Array[]> {
  const fusion = of.nodes.some(({ operator }) => operator === 'com.microsoft.MatMulNBits') ? 'all' : 'elementary'
  const session = await Session.open(of, tensors, { provider: 'cpu', threads, fusion })
  const K = of.inputs[0]?.shape[2] as number
  const results: Float32Array[] = []
  for (const x of batches) {
    const { y } = await session.run({ x: float32(x, x.length / (tokens * K), tokens, K) })
    results.push(y?.data as Float32Array)
  }
  await session.close()
  return results
}

const tokens = 12

const cases = ([4, 8] as const).flatMap((bits) =>
  ([[32, 96], [32, 80], [16, 40], [128, 256]] as const).map(([blockSize, K]) => ({ bits, blockSize, K })),
)

const bounds = { float32: 2e-6, int8: 1e-2 } as const
const products = [
  { kernels: 'fused', activations: 'float32' },
  { kernels: 'fused', activations: 'int8' },
  { kernels: 'elementary', activations: 'float32' },
] as const

describe.each(cases)('$bits bits, blocks of $blockSize, $K inputs', ({ bits, blockSize, K }) => {
  test.each(products)('$kernels, $activations: the product with the dequantised matrix', async (how) => {
    const layer: Layer = { N: 24, K, format: { bits, blockSize } }
    const { tensors, matrix, bias } = await writeLayer(layer)
    const x = normal(2 * tokens * K, 3)
    const [y = new Float32Array()] = await run(layerGraph(layer, how), tensors, [x])
    let [errors, squares] = [0, 0]
    for (const [i, value] of y.entries()) {
      const [row, n] = [Math.floor(i / 24), i % 24]
      let exact = bias[n]!
      for (let k = 0; k < K; k++) exact += x[row * K + k]! * matrix[n * K + k]!
      errors += (value - exact) ** 2
      squares += exact ** 2
    }
    expect(y).toHaveLength(2 * tokens * 24)
    expect(Math.sqrt(errors / squares)).toBeLessThan(bounds[how.activations])
  })
})

describe.each([1, 2])('with %i threads', (threads) => {
  test.each([
    [4, 'float32'],
    [8, 'float32'],
    [8, 'int8'],
  ] as const)('%i bits, %s: a prompt alone gives the bits that it gives among 2 and 4', async (bits, activations) => {
    const layer: Layer = { N: 320, K: 256, format: { bits, blockSize: 32 } }
    const { tensors } = await writeLayer(layer)
    const x = normal(4 * tokens * 256, 4)
    const one = tokens * 256
    const batches = [x.subarray(0, one), x.subarray(one, 2 * one), x.subarray(0, 2 * one), x]
    const [first, second, two, four] = await run(layerGraph(layer, { kernels: 'fused', activations }), tensors, batches, threads)
    expect(two).toEqual(Float32Array.of(...first!, ...second!))
    expect(four!.subarray(0, two!.length)).toEqual(two)
  })
})

test('an embedding stored as float16 comes out as the float32 numbers that it stands for', async () => {
  const table = new Float16Array(normal(50 * 8, 5))
  const file = join(await temporaryFolder(), 'model.safetensors')
  await writeSafetensors(file, [['shared.weight', { dtype: 'F16', shape: [50, 8], data: table }]])
  const scope = Scope.root('float32', { formats: new Map([['shared.weight', { kind: 'float16' }]]), kernels: 'fused' })
  const ids = input('ids', 'int32', [symbol('B'), symbol('T')])
  const rows = graph('embedding', [ids], { rows: embedding(scope.at('shared'), ids, 50, 8) })
  const session = await Session.open(rows, (await openSafetensors(file)).tensors, { provider: 'cpu', threads: 1 })
  const { rows: found } = await session.run({ ids: int32(Int32Array.of(49, 0, 7), 1, 3) })
  await session.close()
  const expected = [49, 0, 7].flatMap((id) => Array.from(table.subarray(8 * id, 8 * id + 8)))
  expect(found).toEqual(float32(Float32Array.from(expected), 1, 3, 8))
})

describe('what config.json says', () => {
  const config = { quant_method: 'matmul_nbits', bits: 4, group_size: 32, zero_point: true }
  const read = (fields: object) => quantisationOf('transformer', { quantization_config: { ...config, ...fields } })

  test('nothing of a quantisation: all weights are in full', () => {
    expect(quantisationOf('transformer', {})).toBeUndefined()
    const storage = weightStorage({ name: 'transformer', config: {}, tensors: new Map() }, 'plain')
    expect(storage).toEqual({ formats: new Map(), kernels: 'elementary' })
  })
  test.each(partKeys('encoder.block.0.layer.0.SelfAttention.q.weight'))('a matrix that has lost %s is quantised still', (lost) => {
    const [key] = partKeys('encoder.block.0.layer.0.SelfAttention.q.weight')
    const location = { file: '', offset: 0, length: 0, shape: [] }
    const parts = partKeys(key).map((part, i) => [part, { ...location, dtype: i === 1 ? 'F16' : 'U8' }] as const)
    const tensors = new Map<string, TensorLocation>(parts.filter(([part]) => part !== lost))
    const { formats } = weightStorage({ name: 'text_encoder', config: { quantization_config: config }, tensors }, 'serve')
    expect([...formats.keys()]).toEqual([key])
  })
  test('a method by its name alone is refused', () => {
    expect(() => quantisationOf('transformer', { quantization_config: 'gptq' })).toThrow(
      'transformer config, quantization_config: expected an object, got "gptq"',
    )
  })
  test('bits and block size', () => {
    expect(read({})).toEqual({ bits: 4, blockSize: 32 })
    expect(read({ bits: 8, group_size: 128 })).toEqual({ bits: 8, blockSize: 128 })
  })
  test.each([
    [{ quant_method: 'gptq' }, 'transformer quantization config, quant_method: expected "matmul_nbits", got "gptq"'],
    [{ bits: 3 }, 'bits: expected 4 or 8, got 3'],
    [{ group_size: 20 }, 'group_size: expected one of 16, 32, 64, 128, 256, got 20'],
    [{ zero_point: false }, 'zero_point: expected true, got false'],
  ])('another method is refused by field: %o', (fields, message) => {
    expect(() => read(fields)).toThrow(message)
  })
})
