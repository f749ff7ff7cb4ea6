import { expect, test } from 'vitest'
import { float32 } from '../../../src/engine/session.ts'
import { symbol } from '../../../src/graph/dimension.ts'
import { gradients, lossSeed } from '../../../src/graph/gradient/gradients.ts'
import { inline } from '../../../src/graph/inline.ts'
import { graph, input, integers, parameter, scalar, type Value } from '../../../src/graph/ir.ts'
import {
  Add,
  Cast,
  Exp,
  QuickGelu,
  Gather,
  Gemm,
  Identity,
  Log,
  Mul,
  ReduceSum,
  Reshape,
  Shape,
  Sin,
  Slice,
} from '../../../src/graph/ops.ts'
import { floats, openElementary } from './differences.ts'

const total = (x: Value): Value =>
  ReduceSum(
    x,
    x.shape.map((_, axis) => axis),
    { keepdims: 0 },
  )

async function evaluate(value: Value, feeds: Readonly<Record<string, readonly number[]>>): Promise<number[]> {
  const session = await openElementary(graph('value', [], { value }))
  const result = await session.run(
    Object.fromEntries(
      session.graph.inputs.map(({ name }) => [
        name,
        float32(Float32Array.from(feeds[name]!), feeds[name]!.length),
      ]),
    ),
  )
  await session.close()
  return Array.from(floats(result.value))
}

const vector = (name: string) => parameter(name, 'float32', [symbol('N')])

test('a value that is used several times gets the sum of its cotangents', async () => {
  const x = vector('x')
  const [gradient] = gradients([lossSeed(total(Add(Mul(x, x), Mul(x, Exp(x)))))], [x])
  const [at] = await evaluate(gradient!, { x: [0.5] })
  expect(at).toBeCloseTo(2 * 0.5 + 1.5 * Math.exp(0.5), 5)
})

test('several seeds add up, and a value between is differentiated like a leaf', async () => {
  const x = vector('x')
  const between = Mul(x, x)
  const seeds = [
    { value: Sin(between), cotangent: Mul(x, scalar(0)) },
    { value: Mul(between, scalar(3)), cotangent: x },
  ]
  const [ofBetween, ofX] = gradients(seeds, [between, x])
  expect(await evaluate(ofBetween!, { x: [2, 5] })).toEqual([6, 15])
  expect(await evaluate(ofX!, { x: [2, 5] })).toEqual([24, 150])
})

test('nothing is differentiated through a detached value', async () => {
  const x = vector('x')
  const fixed = Identity(x)
  const [gradient] = gradients([lossSeed(total(Mul(x, fixed)))], [x], { detached: new Set([fixed]) })
  expect(await evaluate(gradient!, { x: [3, 4] })).toEqual([3, 4])
})

test('what does not depend on a value has a gradient of zeros', async () => {
  const [x, other] = [vector('x'), vector('other')]
  const [gradient] = gradients([lossSeed(total(Exp(x)))], [other])
  expect(await evaluate(gradient!, { other: [7, 8, 9] })).toEqual([0, 0, 0])
})

test('nothing is computed for what does not lead to the values asked about', () => {
  const weight = parameter('weight', 'float32', [4, 8])
  const frozen = parameter('frozen', 'float32', [8, 8])
  const x = input('x', 'float32', [symbol('N'), 8])
  const hidden = Gemm(Log(x), frozen)
  const [gradient] = gradients([lossSeed(total(Gemm(hidden, weight, undefined, { transB: 1 })))], [weight])
  const { nodes } = graph('gradient', [x], { gradient: gradient! })
  // The two products and the gradient of the last weight; not those of what comes before it.
  expect(nodes.filter(({ operator }) => operator === 'Gemm')).toHaveLength(3)
  expect(nodes.map(({ operator }) => operator)).not.toContain('Div')
})

test('integers on the way, such as shapes and indices, have no gradient', async () => {
  const x = vector('x')
  const index = Cast(x, 'int64')
  const picked = Gather(Exp(x), index)
  const [gradient] = gradients([lossSeed(total(Reshape(picked, Shape(x))))], [x])
  // Index 1 is taken twice.
  const result = await evaluate(gradient!, { x: [1.2, 1.1] })
  expect(result[0]).toBe(0)
  expect(result[1]).toBeCloseTo(2 * Math.exp(1.1), 5)
})

test('an operator without a rule is named, with its node', () => {
  const x = input('x', 'float32', [symbol('N'), 8])
  const weight = parameter('blocks.3.proj.weight', 'float32', [8, 8])
  const loss = total(QuickGelu(Gemm(x, weight), 1))
  expect(() => gradients([lossSeed(loss)], [weight])).toThrow(
    'gradient of com.microsoft.QuickGelu at blocks.3.proj/QuickGelu_1: there is no rule',
  )
})

test('a form that a rule does not cover is named, with its node', () => {
  const x = parameter('x', 'float32', [symbol('N'), 8])
  const loss = total(Slice(x, [-2], [Number.MAX_SAFE_INTEGER], [0]))
  expect(() => gradients([lossSeed(loss)], [x])).toThrow(
    'gradient of Slice at /Slice_0: a start counted from the end of a symbolic axis is not covered',
  )
})

test('a loss is one number, and a cotangent has the shape of its value', () => {
  const x = vector('x')
  expect(() => lossSeed(x)).toThrow('a loss is a scalar, not (N)')
  expect(() => gradients([{ value: x, cotangent: scalar(1) }], [x])).toThrow('the cotangent of (N) is ()')
})

test('a graph in the place of a value computes the same, with the same parameters', async () => {
  const x = input('x', 'float32', [symbol('N')])
  const weight = vector('weight')
  const inner = graph('inner', [x], { y: Mul(x, weight), size: Shape(weight) })
  const outer = vector('z')
  const { y, size } = inline(inner, { x: Exp(outer) })
  expect(size).toBe(inner.outputs['size'])
  expect(await evaluate(y!, { z: [0, 0], weight: [2, 3] })).toEqual([2, 3])
  expect(() => inline(inner, {})).toThrow('inner: x is not given')
  expect(() => inline(inner, { x: integers(1) })).toThrow('Mul of')
})
