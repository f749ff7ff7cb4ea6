import { fromBinary } from '@bufbuild/protobuf'
import { expect, test } from 'vitest'
import { multiply, symbol } from '../../src/graph/dimension.ts'
import { constant, graph, input, integers, scalar, type Graph } from '../../src/graph/ir.ts'
import { ModelProtoSchema, type GraphProto } from '../../src/graph/onnx_pb.ts'
import {
  Add,
  FastGelu,
  Gemm,
  LayerNormalization,
  Reshape,
  SkipLayerNormalization,
  Split,
} from '../../src/graph/ops.ts'
import { print } from '../../src/graph/print.ts'
import { Scope } from '../../src/graph/scope.ts'
import { serialise, type ExternalTensor, type ParameterSource } from '../../src/graph/serialise.ts'

/** Gemm, a com.microsoft operator, a symbolic reshape, constants that are equal, outputs that nobody reads. */
function sample(): Graph {
  const [R, N] = [symbol('R'), symbol('N')]
  const scope = Scope.root()
  const layer = scope.at('layer', 0)
  const x = input('x', 'float32', [R, N, 8])
  const rows = Gemm(
    Reshape(x, integers(-1, 8)),
    layer.parameter('weight', [4, 8]),
    layer.parameter('bias', [4]),
    { transB: 1 },
  )
  const hidden = FastGelu(Reshape(rows, scope.shape([R, N, 4], x)))
  const ones = (): ReturnType<typeof constant> => constant('float32', [4], [1, 1, 1, 1])
  const [normalised = hidden] = LayerNormalization(hidden, ones(), undefined, 1e-6)
  const [again, sum] = SkipLayerNormalization({ x: normalised, skip: hidden, scale: ones(), epsilon: 1e-6 })
  const [left = sum, right = sum] = Split(sum, { axis: 2, num_outputs: 2 })
  return graph('sample', [x], { y: Add(again, scalar(0.5)), left, right, x })
}

const places: ReadonlyMap<string, ExternalTensor> = new Map([
  ['layer.0.weight', { location: 'weights/model.safetensors', offset: 6_000_000_000, length: 128 }],
  ['layer.0.bias', { location: 'weights/model.safetensors', offset: 64, length: 16 }],
])

function decode(parameters: ParameterSource): GraphProto {
  const model = fromBinary(ModelProtoSchema, serialise(sample(), parameters))
  expect(model.irVersion).toBe(10n)
  expect(model.opsetImport.map(({ domain, version }) => [domain, version])).toEqual([
    ['', 21n],
    ['com.microsoft', 1n],
  ])
  if (model.graph === undefined) throw new Error('no graph came back')
  return model.graph
}

test('a graph as text', () => {
  expect(print(sample())).toBe(`graph sample
  input x: float32 (R, N, 8)
  parameter layer.0.weight: float32 (4, 8)
  parameter layer.0.bias: float32 (4)
  %0 = Reshape(x, [-1, 8]:int64): float32 (N*R, 8)
  %1 = Gemm(%0, layer.0.weight, layer.0.bias) {transB: 1}: float32 (N*R, 4)
  %2 = Shape(x) {start: 0, end: 1}: int64 (1)
  %3 = Shape(x) {start: 1, end: 2}: int64 (1)
  %4 = Concat(%2, %3, [4]:int64) {axis: 0}: int64 (3)
  %5 = Reshape(%1, %4): float32 (R, N, 4)
  %6 = com.microsoft.FastGelu(%5): float32 (R, N, 4)
  %7 = LayerNormalization(%6, [1, 1, 1, 1]) {axis: -1, epsilon: 0.000001f}: float32 (R, N, 4)
  %10, %13 = com.microsoft.SkipLayerNormalization(%7, %6, [1, 1, 1, 1]) {epsilon: 0.000001f}: float32 (R, N, 4), float32 (R, N, 4)
  %14 = Add(%10, 0.5): float32 (R, N, 4)
  %15, %16 = Split(%13) {axis: 2, num_outputs: 2}: float32 (R, N, 2), float32 (R, N, 2)
  output y = %14
  output left = %15
  output right = %16
  output x = x
`)
})

test('every name is written once, before any node reads it', () => {
  const { node, input, initializer } = decode(places)
  const known = new Set(['', ...[...input, ...initializer].map(({ name }) => name)])
  const unknown: string[] = []
  const twice: string[] = []
  for (const { input: read, output } of node) {
    const written = output.filter((name) => name !== '')
    unknown.push(...read.filter((name) => !known.has(name)))
    twice.push(...written.filter((name) => known.has(name)))
    for (const name of written) known.add(name)
  }
  expect({ unknown, twice }).toEqual({ unknown: [], twice: [] })
})

test('operators keep their names and domains, nodes are named after their module', () => {
  const nodes = decode(places).node.map(({ name, domain, opType }) => [name, domain, opType].join(' '))
  expect(nodes).toContain('layer.0/Gemm_1  Gemm')
  expect(nodes).toContain('layer.0/FastGelu_6 com.microsoft FastGelu')
})

test('attributes keep their kinds, and a zero is written', () => {
  const attributes = decode(places).node.flatMap(({ opType, attribute }) =>
    attribute.map((each) => ({ opType, ...each })),
  )
  const transB = attributes.find(({ name }) => name === 'transB')
  expect([transB?.type, transB?.i]).toEqual([2, 1n])
  const epsilon = attributes.find(({ name }) => name === 'epsilon')
  expect([epsilon?.type, epsilon?.f]).toEqual([1, Math.fround(1e-6)])
  const start = decode(places)
    .node.flatMap(({ attribute }) => attribute)
    .find(({ name, i }) => name === 'start' && i === 0n)
  expect(start?.type).toBe(2)
})

test('parameters point at their bytes, beyond 4 GiB too', () => {
  const weight = decode(places).initializer.find(({ name }) => name === 'layer.0.weight')
  expect(weight?.dims).toEqual([4n, 8n])
  expect(weight?.dataLocation).toBe(1)
  expect(weight?.rawData).toHaveLength(0)
  expect(weight?.externalData.map(({ key, value }) => [key, value])).toEqual([
    ['location', 'weights/model.safetensors'],
    ['offset', '6000000000'],
    ['length', '128'],
  ])
})

test('as inputs, parameters follow the inputs in the order of first use', () => {
  const { input, initializer } = decode('inputs')
  expect(input.map(({ name }) => name)).toEqual(['x', 'layer.0.weight', 'layer.0.bias'])
  expect(initializer.every(({ rawData }) => rawData.length > 0)).toBe(true)
})

test('equal constants are stored once', () => {
  const vectors = decode(places).initializer.filter(
    ({ dims, dataType }) => dataType === 1 && dims.length === 1 && dims[0] === 4n,
  )
  expect(vectors.filter(({ dataLocation }) => dataLocation !== 1)).toHaveLength(1)
})

test('symbolic sizes become named dimensions', () => {
  const [x] = decode(places).input
  const type = x?.type?.value
  expect(type?.value?.shape?.dim.map(({ value }) => value.value)).toEqual(['R', 'N', 8n])
})

test('outputs that nobody reads are left out, and an input can be an output', () => {
  const { node, output } = decode(places)
  expect(node.find(({ opType }) => opType === 'LayerNormalization')?.output).toHaveLength(1)
  expect(
    node.find(({ opType }) => opType === 'SkipLayerNormalization')?.output.map((name) => name !== ''),
  ).toEqual([true, false, false, true])
  expect(output.map(({ name }) => name)).toEqual(['y', 'left', 'right', 'x'])
})

test('a parameter that is fed follows the inputs, and the others stay where they lie', () => {
  const { input, initializer } = decode(
    new Map<string, ExternalTensor | 'input'>([...places, ['layer.0.bias', 'input']]),
  )
  expect(input.map(({ name }) => name)).toEqual(['x', 'layer.0.bias'])
  const stored = initializer.filter(({ dataLocation }) => dataLocation === 1)
  expect(stored.map(({ name }) => name)).toEqual(['layer.0.weight'])
})

test('a parameter without a place, or with one of another size, is refused', () => {
  expect(() => serialise(sample(), new Map())).toThrow('layer.0.weight: no place is given')
  const short = new Map([...places].map(([name, place]) => [name, { ...place, length: 4 }]))
  expect(() => serialise(sample(), short)).toThrow('layer.0.weight: 128 bytes are needed, 4 given')
})

test('a stored tensor cannot be symbolic', () => {
  const N = multiply(symbol('N'), 2)
  const weight = Scope.root().parameter('w', [N])
  expect(() =>
    serialise(
      graph('g', [], { y: Add(weight, weight) }),
      new Map([['w', { location: 'f', offset: 0, length: 8 }]]),
    ),
  ).toThrow('w: a stored tensor cannot have the symbolic size 2*N')
})
