import { expect, test } from 'vitest'
import { symbol } from '../../src/graph/dimension.ts'
import { constant, graph, input, parameter, scalar, type Value } from '../../src/graph/ir.ts'
import { Add, Exp, Mul, Sqrt } from '../../src/graph/ops.ts'
import { Scope } from '../../src/graph/scope.ts'

const N = symbol('N')
const x = input('x', 'float32', [N])

test('a graph holds what its outputs reach, each node once, before those that read it', () => {
  const root = Sqrt(x)
  const unread = Exp(root)
  const sum = Add(Mul(root, root), root)
  const { nodes } = graph('g', [x], { sum })
  expect(nodes.map(({ operator }) => operator)).toEqual(['Sqrt', 'Mul', 'Add'])
  expect(nodes).not.toContain(unread.node)
})

test('a graph of 100,000 nodes in a row does not overflow the stack', () => {
  let value: Value = x
  for (let i = 0; i < 100_000; i++) value = Exp(value)
  expect(graph('deep', [x], { value }).nodes).toHaveLength(100_000)
})

test('an input that is not listed, and two parameters of one name, are refused', () => {
  expect(() => graph('g', [], { y: Exp(x) })).toThrow('g: x is not among its inputs')
  const twins = Add(parameter('w', 'float32', [N]), parameter('w', 'float32', [N]))
  expect(() => graph('g', [], { twins })).toThrow('two values are named w')
})

test('a constant must fill its shape', () => {
  expect(() => constant('float32', [2, 3], [1, 2, 3])).toThrow('(2, 3) cannot hold 3 elements')
})

test('a scope names parameters by their path, and gives the same value twice', () => {
  const scope = Scope.root().at('blocks', 0, 'proj')
  const weight = scope.parameter('weight', [4, 8])
  expect(weight.name).toBe('blocks.0.proj.weight')
  expect(scope.parameter('weight', [4, 8])).toBe(weight)
  expect(() => scope.parameter('weight', [8, 4])).toThrow('asked for as (8, 4) and as (4, 8)')
})

test('a scope reads each symbolic size once', () => {
  const scope = Scope.root()
  const first = scope.shape([N, 4], x)
  expect(scope.at('elsewhere').shape([N, 4], Add(x, scalar(1)))).toBe(first)
  expect(() => scope.shape([symbol('M')], x)).toThrow('no axis of (N) is M')
})
