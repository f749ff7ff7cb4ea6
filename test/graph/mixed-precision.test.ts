import { expect, test } from 'vitest'
import { float32, Session } from '../../src/engine/session.ts'
import { symbol } from '../../src/graph/dimension.ts'
import {
  constant,
  graph,
  input,
  integers,
  parameter,
  scalar,
  type Graph,
  type Value,
} from '../../src/graph/ir.ts'
import { inMixedPrecision } from '../../src/graph/mixed-precision.ts'
import {
  Add,
  Gather,
  Gemm,
  MatMul,
  Mul,
  MultiHeadAttention,
  Resize,
  Softmax,
  Sub,
} from '../../src/graph/ops.ts'
import { print } from '../../src/graph/print.ts'

const nothing = (): boolean => false
const lines = (converted: Graph): string[] => print(converted).trimEnd().split('\n').slice(1)
const x = input('x', 'float32', [symbol('N'), 4])

test('products give float16, softmax float32, and between them operators take the wider of their inputs', () => {
  const weight = parameter('weight', 'float32', [4, 4])
  const product = Gemm(x, weight)
  const weights = Softmax(Mul(product, scalar(0.5)), { axis: -1 })
  const output = MatMul(Sub(weights, product), weight)
  expect(lines(inMixedPrecision(graph('g', [x], { output }), nothing))).toEqual([
    '  input x: float32 (N, 4)',
    '  parameter weight: float16 (4, 4)',
    '  %0 = Cast(x) {to: 10}: float16 (N, 4)',
    '  %1 = Gemm(%0, weight): float16 (N, 4)',
    '  %2 = Mul(%1, 0.5:float16): float16 (N, 4)',
    '  %3 = Cast(%2) {to: 1}: float32 (N, 4)',
    '  %4 = Softmax(%3) {axis: -1}: float32 (N, 4)',
    '  %5 = Cast(%1) {to: 1}: float32 (N, 4)',
    '  %6 = Sub(%4, %5): float32 (N, 4)',
    '  %7 = Cast(%6) {to: 10}: float16 (N, 4)',
    '  %8 = MatMul(%7, weight): float16 (N, 4)',
    '  %9 = Cast(%8) {to: 1}: float32 (N, 4)',
    '  output output = %9',
  ])
})

test('a value that several products read is rounded once', () => {
  const [a, b] = ['a', 'b'].map((name) => Gemm(x, parameter(name, 'float32', [4, 4])))
  const converted = inMixedPrecision(graph('g', [x], { output: Add(a!, b!) }), nothing)
  expect(converted.nodes.map(({ operator }) => operator)).toEqual(['Cast', 'Gemm', 'Gemm', 'Add', 'Cast'])
})

test('products with what is kept stay float32, and so do parameters that anything but a product reads', () => {
  const [kept, shared, table] = ['kept', 'shared', 'table'].map((name) => parameter(name, 'float32', [4, 4]))
  const rows = Gather(table!, integers(1, 2))
  const output = Add(Gemm(rows, kept!), Mul(MatMul(rows, shared!), Gather(shared!, integers(0))))
  const squared = Mul(shared!, shared!)
  const converted = inMixedPrecision(graph('g', [], { output, squared }), (key) => key === 'kept')
  expect(new Map(converted.parameters.map(({ name, dtype }) => [name, dtype]))).toEqual(
    new Map([
      ['table', 'float16'],
      ['kept', 'float32'],
      ['shared', 'float32'],
    ]),
  )
})

test('the scales of a resize stay what the operator takes', () => {
  const picture = input('picture', 'float32', [1, 4, 2, 2])
  const half = MatMul(picture, parameter('weight', 'float32', [2, 2]))
  const scales = constant('float32', [4], [1, 1, 2, 2])
  const output: Value = Resize(half, scales, { mode: 'nearest' })
  const resize = inMixedPrecision(graph('g', [picture], { output }), nothing).nodes.find(
    ({ operator }) => operator === 'Resize',
  )
  expect(resize?.inputs.map((value) => value?.dtype)).toEqual(['float16', undefined, 'float32'])
})

test('a bias of the least float32 hides keys and makes no infinity', async () => {
  const [query, bias] = [input('query', 'float32', [1, 2, 4]), input('bias', 'float32', [1, 1, 2, 2])]
  const output = MultiHeadAttention({ query, key: query, value: query, bias }, { heads: 1, scale: 1 })
  const converted = inMixedPrecision(
    graph('g', [query, bias], { output, largest: Add(output, query) }),
    nothing,
  )
  const session = await Session.open(converted, new Map(), { provider: 'cpu', threads: 1 })
  const least = -3.4028234663852886e38
  const results = await session.run({
    query: float32(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), 1, 2, 4),
    bias: float32(Float32Array.of(0, least, least, least), 1, 1, 2, 2),
  })
  await session.close()
  // The second query sees no key at all: both equally.
  const rows = Array.from(results.output?.data ?? [], Number)
  expect(rows.slice(0, 4)).toEqual([1, 2, 3, 4])
  expect(rows.every((value) => Number.isFinite(value))).toBe(true)
})
