import { describe, expect, test } from 'vitest'
import { multiply, symbol } from '../../src/graph/dimension.ts'
import { constant, input, integers, parameter, scalar, type Value } from '../../src/graph/ir.ts'
import * as ops from '../../src/graph/ops.ts'
import { shapeText } from '../../src/graph/shapes.ts'

const [R, N, T] = [symbol('R'), symbol('N'), symbol('T')]
const float = (...shape: Value['shape']): Value => input('x', 'float32', shape)
const shape = (value: Value | undefined): string => (value ? shapeText(value.shape) : 'nothing')

describe('elementwise operators broadcast', () => {
  test('sizes of one and missing leading axes give way', () => {
    expect(shape(ops.Add(float(R, 1, 32), float(N, 32)))).toBe('(R, N, 32)')
    expect(shape(ops.Where(ops.Less(float(R, 1), float(N)), scalar(0), float(1, N)))).toBe('(R, N)')
  })
  test('sizes that differ are refused with operator and shapes', () => {
    expect(() => ops.Add(float(R, N), float(R, T))).toThrow(
      /Add of float32 \(R, N\), float32 \(R, T\): axis 1 is T, expected N/,
    )
  })
  test('types that differ are refused', () => {
    expect(() => ops.Mul(float(R), input('i', 'int64', [R]))).toThrow('the inputs differ in type')
  })
})

describe('products', () => {
  test('leading axes broadcast and the inner size must agree', () => {
    expect(shape(ops.MatMul(float(R, 4, N, 8), float(8, T)))).toBe('(R, 4, N, T)')
    expect(() => ops.MatMul(float(R, 8), float(9, 4))).toThrow(
      'the inner size of the second is 9, expected 8',
    )
  })
  test('Gemm takes a checkpoint weight as (out, in)', () => {
    expect(shape(ops.Gemm(float(R, 8), parameter('w', 'float32', [16, 8]), float(16), { transB: 1 }))).toBe(
      '(R, 16)',
    )
    expect(() => ops.Gemm(float(R, 8), float(16, 8))).toThrow('inner size')
  })
  test('MatMulNBits takes a matrix (N, K) as codes, scales and zero points of blocks along K', () => {
    const bytes = (...sizes: number[]): Value => parameter('b', 'uint8', sizes)
    const product = (codes: Value, zeroPoints?: Value, bias?: Value): Value =>
      ops.MatMulNBits(float(R, T, 80), { codes, scales: float(24, 3), zeroPoints }, bias, {
        K: 80,
        N: 24,
        bits: 4,
        block_size: 32,
        accuracy_level: 1,
      })
    expect(shape(product(bytes(24, 3, 16)))).toBe('(R, T, 24)')
    expect(shape(product(bytes(24, 3, 16), bytes(24, 2), float(24)))).toBe('(R, T, 24)')
    expect(() => product(bytes(24, 2, 16))).toThrow('axis 1 of the codes is 2, expected 3')
    expect(() => product(bytes(24, 3, 16), bytes(24, 3))).toThrow(
      'axis 1 of the zero points is 3, expected 2',
    )
    expect(() => product(float(24, 3, 16))).toThrow('codes and zero points must be uint8')
    expect(() => product(bytes(24, 3, 16), undefined, float(25))).toThrow(
      'axis 0 of the bias is 25, expected 24',
    )
  })
})

describe('reshaping', () => {
  test('zero keeps a size and minus one takes what is left, symbols included', () => {
    expect(shape(ops.Reshape(float(R, N, 32), integers(-1, 32)))).toBe('(N*R, 32)')
    expect(shape(ops.Reshape(float(R, N, 32), integers(0, 0, 4, 8)))).toBe('(R, N, 4, 8)')
    expect(shape(ops.Reshape(float(R, 8, multiply(N, 2)), integers(0, 4, -1)))).toBe('(R, 4, 4*N)')
  })
  test('a shape computed in the graph carries its symbols along', () => {
    const x = float(R, N, 32)
    const target = ops.Concat([ops.Shape(x, { start: 0, end: 2 }), integers(4, 8)], { axis: 0 })
    expect(shape(ops.Reshape(ops.Reshape(x, integers(-1, 32)), target))).toBe('(R, N, 4, 8)')
    const last = ops.Gather(ops.Shape(x), integers(1))
    expect(shape(ops.Expand(float(1, 1), ops.Concat([integers(3), last], { axis: 0 })))).toBe('(3, N)')
  })
  test('another number of elements is refused', () => {
    expect(() => ops.Reshape(float(R, 32), integers(0, 31))).toThrow(
      'the number of elements is 31*R, expected 32*R',
    )
    expect(() => ops.Reshape(float(R, 32), integers(-1, 5))).toThrow('32*R is not a multiple of 5')
  })
})

describe('moving and cutting', () => {
  test('transpose, unsqueeze, squeeze', () => {
    expect(shape(ops.Transpose(float(R, N, 8), [0, 2, 1]))).toBe('(R, 8, N)')
    expect(shape(ops.Unsqueeze(float(R, N), [1, -1]))).toBe('(R, 1, N, 1)')
    expect(shape(ops.Squeeze(float(R, 1, N), [1]))).toBe('(R, N)')
    expect(() => ops.Squeeze(float(R, N), [1])).toThrow('axis 1 is N, expected 1')
  })
  test('split gives even parts, concat their sum', () => {
    const parts = ops.Split(float(R, 6, 8), { axis: 1, num_outputs: 6 })
    expect(parts.map(shape)).toEqual(Array.from({ length: 6 }, () => '(R, 1, 8)'))
    expect(shape(ops.Concat([float(R, N), float(R, T)], { axis: 1 }))).toBe('(R, N + T)')
  })
  test('slice counts from both ends', () => {
    expect(shape(ops.Slice(float(R, 10), [2], [-1], [1]))).toBe('(R, 7)')
    expect(shape(ops.Slice(float(R, 10), [0], [99], [1]))).toBe('(R, 10)')
  })
  test('gather puts the indices where the axis was', () => {
    expect(shape(ops.Gather(float(100, 32), input('ids', 'int32', [R, T])))).toBe('(R, T, 32)')
  })
})

describe('convolutions', () => {
  const weight = (out: number, channels: number, kernel: number): Value =>
    float(out, channels, kernel, kernel)
  const [h, w] = [symbol('h'), symbol('w')]
  test('padding by half a kernel keeps the size', () => {
    expect(shape(ops.Conv(float(R, 4, h, w), weight(16, 4, 3), float(16), { pads: [1, 1, 1, 1] }))).toBe(
      '(R, 16, h, w)',
    )
  })
  test('a stride of two halves a size that is known to be even', () => {
    const x = float(R, 4, multiply(h, 2), multiply(w, 2))
    expect(shape(ops.Conv(x, weight(16, 4, 3), undefined, { pads: [0, 0, 1, 1], strides: [2, 2] }))).toBe(
      '(R, 16, h, w)',
    )
    expect(() => ops.Conv(float(R, 4, h, w), weight(16, 4, 3), undefined, { strides: [2, 2] })).toThrow(
      'does not divide',
    )
  })
  test('other channels are refused', () => {
    expect(() => ops.Conv(float(R, 3, 8, 8), weight(16, 4, 3), undefined, {})).toThrow(
      'the channel count is 3, expected 4',
    )
  })
  test('resizing multiplies', () => {
    expect(shape(ops.Resize(float(R, 4, h, w), constant('float32', [4], [1, 1, 2, 2]), {}))).toBe(
      '(R, 4, 2*h, 2*w)',
    )
  })
})

describe('reductions and attention', () => {
  test('reduced axes become one or go', () => {
    expect(shape(ops.ReduceMean(float(R, N, 8), [-1]))).toBe('(R, N, 1)')
    expect(shape(ops.ReduceSum(float(R, N, 8), [0, 1], { keepdims: 0 }))).toBe('(8)')
  })
  test('attention keeps the query length and checks the bias', () => {
    const attention = { query: float(R, N, 32), key: float(R, T, 32), value: float(R, T, 32) }
    const options = { heads: 4, scale: 1 }
    expect(shape(ops.MultiHeadAttention({ ...attention, bias: float(R, 1, N, T) }, options))).toBe(
      '(R, N, 32)',
    )
    expect(() => ops.MultiHeadAttention({ ...attention, bias: float(R, 1, 1, T) }, options)).toThrow(
      'query axis',
    )
    expect(() => ops.MultiHeadAttention(attention, { heads: 5, scale: 1 })).toThrow('no multiple of 5 heads')
  })
})
