/**
 * What each operator's outputs look like, given its inputs: one rule an operator, over symbolic shapes. The table is also the
 * list of operators that our graphs may use; standard ones by name, ONNX Runtime's own as `com.microsoft.NAME`.
 * Semantics: the ONNX operator reference, opset 21, and ONNX Runtime's ContribOperators.
 */
import { dataTypeOf, type DataType } from './data-type.ts'
import {
  add,
  dimensionText,
  divide,
  floorDivide,
  multiply,
  product,
  sameDimension,
  type Dimension,
} from './dimension.ts'
import type { Attributes, Shape, Type, Value } from './ir.ts'

export type OperatorName = keyof typeof rules

/**
 * @returns the types of all outputs
 * @throws {TypeError} when the operator cannot take these inputs
 */
export function infer(
  operator: OperatorName,
  inputs: readonly (Value | undefined)[],
  attributes: Attributes,
): readonly Type[] {
  return rules[operator](new Call(operator, inputs, attributes))
}

export const shapeText = (shape: Shape): string => `(${shape.map(dimensionText).join(', ')})`

/** One application of an operator, as a rule asks about it. */
class Call {
  readonly operator: string
  readonly inputs: readonly (Value | undefined)[]
  readonly attributes: Attributes

  constructor(operator: string, inputs: readonly (Value | undefined)[], attributes: Attributes) {
    this.operator = operator
    this.inputs = inputs
    this.attributes = attributes
  }

  fail(problem: string): never {
    const inputs = this.inputs.map((value) =>
      value ? `${value.dtype} ${shapeText(value.shape)}` : 'nothing',
    )
    throw new TypeError(`${this.operator} of ${inputs.join(', ')}: ${problem}`)
  }

  input(index: number): Value {
    return this.inputs[index] ?? this.fail(`input ${index} is missing`)
  }

  int(name: string, fallback?: number): number {
    const value = this.attributes[name] ?? fallback
    return typeof value === 'number' ? value : this.fail(`attribute ${name} is no int`)
  }

  ints(name: string, fallback?: readonly number[]): readonly number[] {
    const value = this.attributes[name] ?? fallback
    return Array.isArray(value)
      ? (value as readonly number[])
      : this.fail(`attribute ${name} is no list of ints`)
  }

  /** The numbers in an input that must be a list of known integers (axes, starts, a target shape). */
  elements(index: number): readonly Dimension[] {
    return this.input(index).elements ?? this.fail(`input ${index} must be known when the graph is built`)
  }

  numbers(index: number): readonly number[] {
    return this.elements(index).map((element) =>
      typeof element === 'number'
        ? element
        : this.fail(`input ${index} must hold numbers, not ${element.text}`),
    )
  }

  axis(axis: number, rank: number): number {
    return axis >= -rank && axis < rank ? (axis + rank) % rank : this.fail(`there is no axis ${axis}`)
  }

  dimension(shape: Shape, axis: number): Dimension {
    return shape[this.axis(axis, shape.length)] ?? this.fail(`there is no axis ${axis}`)
  }

  expect(actual: Dimension, expected: Dimension, what: string): void {
    if (!sameDimension(actual, expected)) {
      this.fail(`${what} is ${dimensionText(actual)}, expected ${dimensionText(expected)}`)
    }
  }

  sameTypes(): DataType {
    const dtype = this.input(0).dtype
    if (this.inputs.some((value) => value && value.dtype !== dtype)) this.fail('the inputs differ in type')
    return dtype
  }

  broadcast(...shapes: Shape[]): Shape {
    const rank = Math.max(...shapes.map((shape) => shape.length))
    return Array.from({ length: rank }, (_, axis) => {
      const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1).filter((size) => size !== 1)
      const [size = 1, ...others] = sizes
      for (const other of others) this.expect(other, size, `axis ${axis}`)
      return size
    })
  }
}

type Rule = (call: Call) => readonly Type[]

const unary: Rule = (call) => [{ dtype: call.input(0).dtype, shape: call.input(0).shape }]

const binary: Rule = (call) => [
  { dtype: call.sameTypes(), shape: call.broadcast(call.input(0).shape, call.input(1).shape) },
]

const comparison: Rule = (call) => [{ dtype: 'bool', shape: binary(call)[0]?.shape ?? [] }]

const matMul: Rule = (call) => {
  const flipped = (name: string, shape: Shape): Shape =>
    call.int(name, 0) === 0 ? shape : [...shape.slice(0, -2), ...shape.slice(-2).toReversed()]
  const a = flipped('transA', call.input(0).shape)
  const b = flipped('transB', call.input(1).shape)
  if (a.length < 2 || b.length < 2) call.fail('both must have at least two axes')
  call.expect(call.dimension(b, -2), call.dimension(a, -1), 'the inner size of the second')
  const leading = call.broadcast(a.slice(0, -2), b.slice(0, -2))
  return [{ dtype: call.sameTypes(), shape: [...leading, call.dimension(a, -2), call.dimension(b, -1)] }]
}

const gemm: Rule = (call) => {
  const [product] = matMul(call)
  const [, , c] = call.inputs
  if (product === undefined || product.shape.length !== 2) return call.fail('both must have two axes')
  if (c && call.broadcast(c.shape, product.shape).length !== 2) call.fail('the bias does not fit')
  return [product]
}

const reduction: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const axes = call.inputs[1]
    ? call.numbers(1).map((axis) => call.axis(axis, shape.length))
    : shape.map((_, i) => i)
  const keep = call.int('keepdims', 1) === 1
  return [{ dtype, shape: shape.flatMap((size, i) => (axes.includes(i) ? (keep ? [1] : []) : [size])) }]
}

/** Windows along one axis: ⌊(size + padding − dilation·(kernel − 1) − 1) / stride⌋ + 1. */
function windows(call: Call, size: Dimension, kernel: number, stride: number, padding: number): Dimension {
  const last = floorDivide(add(size, padding - kernel), stride)
  return last === undefined
    ? call.fail(`a stride of ${stride} does not divide ${dimensionText(size)}`)
    : add(last, 1)
}

const conv: Rule = (call) => {
  const [x, weight] = [call.input(0).shape, call.input(1).shape]
  const kernel = weight
    .slice(2)
    .map((size) => (typeof size === 'number' ? size : call.fail('the kernel must be known')))
  const strides = call.ints(
    'strides',
    kernel.map(() => 1),
  )
  const pads = call.ints(
    'pads',
    [...kernel, ...kernel].map(() => 0),
  )
  call.expect(
    call.dimension(x, 1),
    multiply(call.dimension(weight, 1), call.int('group', 1)),
    'the channel count',
  )
  if (call.inputs[2])
    call.expect(call.dimension(call.inputs[2].shape, 0), call.dimension(weight, 0), 'the bias')
  const spatial = kernel.map((size, i) =>
    windows(
      call,
      call.dimension(x, i + 2),
      size,
      strides[i] ?? 1,
      (pads[i] ?? 0) + (pads[i + kernel.length] ?? 0),
    ),
  )
  return [{ dtype: call.sameTypes(), shape: [call.dimension(x, 0), call.dimension(weight, 0), ...spatial] }]
}

/** Of each axis: stride·(size − 1) + kernel − padding + output padding. */
const convTranspose: Rule = (call) => {
  const [x, weight] = [call.input(0).shape, call.input(1).shape]
  const kernel = weight.slice(2)
  const [strides, pads, extra] = [call.ints('strides'), call.ints('pads'), call.ints('output_padding')]
  call.expect(call.dimension(weight, 0), call.dimension(x, 1), 'the channel count')
  const spatial = kernel.map((size, i) => {
    const padding = (extra[i] ?? 0) - (pads[i] ?? 0) - (pads[i + kernel.length] ?? 0)
    return add(multiply(add(call.dimension(x, i + 2), -1), strides[i] ?? 1), add(size, padding))
  })
  return [{ dtype: call.sameTypes(), shape: [call.dimension(x, 0), call.dimension(weight, 1), ...spatial] }]
}

const scatterElements: Rule = (call) => {
  const [data, indices, updates] = [call.input(0), call.input(1), call.input(2)]
  if (data.dtype !== updates.dtype || data.shape.length !== updates.shape.length)
    call.fail('the updates must have the type and rank of the data')
  for (const [axis, size] of updates.shape.entries())
    call.expect(call.dimension(indices.shape, axis), size, `axis ${axis} of the indices`)
  call.axis(call.int('axis', 0), data.shape.length)
  return [{ dtype: data.dtype, shape: data.shape }]
}

const reshape: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const target = call.elements(1).map((size, i) => (size === 0 ? call.dimension(shape, i) : size))
  const total = product(shape)
  const known = product(target.filter((size) => size !== -1))
  if (!target.includes(-1)) {
    call.expect(known, total, 'the number of elements')
    return [{ dtype, shape: target }]
  }
  const missing =
    divide(total, known) ?? call.fail(`${dimensionText(total)} is not a multiple of ${dimensionText(known)}`)
  return [{ dtype, shape: target.map((size) => (size === -1 ? missing : size)) }]
}

const shapeOf: Rule = (call) => {
  const { shape } = call.input(0)
  const elements = shape.slice(call.int('start', 0), call.int('end', shape.length))
  return [{ dtype: 'int64', shape: [elements.length], elements }]
}

const gather: Rule = (call) => {
  const [data, indices] = [call.input(0), call.input(1)]
  const axis = call.axis(call.int('axis', 0), data.shape.length)
  const shape = [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)]
  if (data.elements === undefined || indices.elements === undefined) return [{ dtype: data.dtype, shape }]
  return [
    {
      dtype: data.dtype,
      shape,
      elements: call.numbers(1).map((i) => call.dimension(data.elements ?? [], i)),
    },
  ]
}

const concat: Rule = (call) => {
  const values = call.inputs.map((_, i) => call.input(i))
  const first = call.input(0).shape
  const axis = call.axis(call.int('axis'), first.length)
  const total = values.map(({ shape }) => call.dimension(shape, axis)).reduce(add)
  for (const { shape } of values) {
    for (const [i, size] of shape.entries())
      if (i !== axis) call.expect(size, call.dimension(first, i), `axis ${i}`)
  }
  const shape = first.map((size, i) => (i === axis ? total : size))
  const parts = values.map(({ elements }) => elements)
  const known = parts.every((part) => part !== undefined)
  return [{ dtype: call.sameTypes(), shape, ...(known ? { elements: parts.flat() } : {}) }]
}

const slice: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const [starts, ends] = [call.elements(1), call.elements(2)]
  const axes = call.inputs[3]
    ? call.numbers(3).map((axis) => call.axis(axis, shape.length))
    : starts.map((_, i) => i)
  const steps = call.inputs[4] ? call.numbers(4) : axes.map(() => 1)
  if (steps.some((step) => step < 1)) call.fail('only positive steps are known here')
  return [
    {
      dtype,
      shape: shape.map((size, axis) => {
        const i = axes.indexOf(axis)
        if (i < 0) return size
        const length = sliceLength(call, size, starts[i] ?? 0, ends[i] ?? size)
        // ⌈length / step⌉
        return windows(call, length, 1, steps[i] ?? 1, 0)
      }),
    },
  ]
}

function sliceLength(call: Call, size: Dimension, start: Dimension, end: Dimension): Dimension {
  const bound = (position: Dimension): Dimension => {
    if (typeof position !== 'number') return position
    if (position < 0) return add(size, position)
    return typeof size === 'number'
      ? Math.min(position, size)
      : position >= Number.MAX_SAFE_INTEGER
        ? size
        : position
  }
  const length = add(bound(end), multiply(bound(start), -1))
  return typeof length === 'number' && length < 0 ? call.fail('the slice ends before it starts') : length
}

const split: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const axis = call.axis(call.int('axis', 0), shape.length)
  const count = call.int('num_outputs', 0)
  const even =
    count > 0
      ? (divide(call.dimension(shape, axis), count) ?? call.fail(`it does not split into ${count}`))
      : 0
  const sizes = call.inputs[1] ? call.elements(1) : Array.from({ length: count }, () => even)
  call.expect(sizes.reduce(add, 0), call.dimension(shape, axis), 'the sum of the parts')
  return sizes.map((size) => ({ dtype, shape: shape.with(axis, size) }))
}

const unsqueeze: Rule = (call) => {
  const { dtype, shape, elements } = call.input(0)
  const rank = shape.length + call.numbers(1).length
  const axes = call.numbers(1).map((axis) => call.axis(axis, rank))
  const rest = [...shape]
  const result = Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : (rest.shift() ?? 1)))
  return [{ dtype, shape: result, ...(elements && rank === 1 ? { elements } : {}) }]
}

const squeeze: Rule = (call) => {
  const { dtype, shape, elements } = call.input(0)
  const axes = call.numbers(1).map((axis) => call.axis(axis, shape.length))
  for (const axis of axes) call.expect(call.dimension(shape, axis), 1, `axis ${axis}`)
  return [{ dtype, shape: shape.filter((_, i) => !axes.includes(i)), ...(elements ? { elements } : {}) }]
}

const pad: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const pads = call.numbers(1)
  return [{ dtype, shape: shape.map((size, i) => add(size, (pads[i] ?? 0) + (pads[i + shape.length] ?? 0))) }]
}

const resize: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const scales = call.inputs[2]
  if (scales?.kind !== 'constant') return call.fail('only constant scales are known here')
  return [{ dtype, shape: shape.map((size, i) => multiply(size, scales.data[i] ?? 1)) }]
}

const transpose: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  const order = call.ints('perm')
  if (order.length !== shape.length) call.fail('the permutation has another rank')
  return [{ dtype, shape: order.map((axis) => call.dimension(shape, axis)) }]
}

const expand: Rule = (call) => [
  { dtype: call.input(0).dtype, shape: call.broadcast(call.input(0).shape, call.elements(1)) },
]

const range: Rule = (call) => {
  const [start, limit, delta] = [call.elements(0)[0], call.elements(1)[0], call.elements(2)[0]]
  if (start !== 0 || delta !== 1 || limit === undefined) return call.fail('only 0 … n − 1 is known here')
  return [{ dtype: 'int64', shape: [limit] }]
}

const where: Rule = (call) => {
  const [condition, yes, no] = [call.input(0), call.input(1), call.input(2)]
  if (condition.dtype !== 'bool' || yes.dtype !== no.dtype) call.fail('expected bool and two of one type')
  return [{ dtype: yes.dtype, shape: call.broadcast(condition.shape, yes.shape, no.shape) }]
}

const withLast = (shape: Shape, size: Dimension): Shape => [...shape.slice(0, -1), size]

/** Outputs: the result, mean, 1 / standard deviation. */
const layerNormalization: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  call.expect(call.dimension(call.input(1).shape, 0), call.dimension(shape, -1), 'the scale')
  const statistics = { dtype, shape: withLast(shape, 1) }
  return [{ dtype, shape }, statistics, statistics]
}

/** Outputs: the result, mean and 1 / standard deviation (training only), the sum of inputs and bias. */
const skipLayerNormalization: Rule = (call) => {
  const { dtype, shape } = call.input(0)
  call.expect(call.dimension(call.input(2).shape, 0), call.dimension(shape, -1), 'the scale')
  const statistics = { dtype, shape: withLast(shape, 1) }
  return [
    { dtype, shape },
    statistics,
    statistics,
    { dtype, shape: call.broadcast(shape, call.input(1).shape) },
  ]
}

/** Unpacked form: query (B, S, heads·d), key and value (B, T, heads·d), bias at 5 broadcastable to (B, heads, S, T). */
const multiHeadAttention: Rule = (call) => {
  const [query, key, value] = [call.input(0), call.input(1), call.input(2)]
  const heads = call.int('num_heads')
  if (query.shape.length !== 3) call.fail('the query must be (batch, sequence, width)')
  if (divide(call.dimension(query.shape, -1), heads) === undefined)
    call.fail(`the width is no multiple of ${heads} heads`)
  call.expect(call.dimension(key.shape, -1), call.dimension(query.shape, -1), 'the width of the key')
  call.expect(call.dimension(value.shape, 1), call.dimension(key.shape, 1), 'the length of the value')
  const bias = call.inputs[5]
  if (bias) {
    const full = [
      call.dimension(query.shape, 0),
      heads,
      call.dimension(query.shape, 1),
      call.dimension(key.shape, 1),
    ]
    call.broadcast(bias.shape, full)
    call.expect(call.dimension(bias.shape, 2), call.dimension(query.shape, 1), 'the bias at the query axis')
  }
  return [{ dtype: query.dtype, shape: withLast(query.shape, call.dimension(value.shape, -1)) }]
}

/**
 * Inputs: x (…, K); codes uint8 (N, blocks, block_size · bits / 8), the lowest bits first; scales (N, blocks) of x's type; zero
 * points uint8 (N, ⌈blocks · bits / 8⌉), packed as the codes are; group indices (deprecated); bias (N).
 */
const matMulNBits: Rule = (call) => {
  const [x, codes, scales] = [call.input(0), call.input(1), call.input(2)]
  const [, , , zeroPoints, groups, bias] = call.inputs
  const [K, N, bits, blockSize] = [call.int('K'), call.int('N'), call.int('bits'), call.int('block_size')]
  const blocks = Math.ceil(K / blockSize)
  const expectShape = ({ shape }: Value, expected: Shape, what: string): void => {
    if (shape.length !== expected.length) call.fail(`${what} must be ${shapeText(expected)}`)
    for (const [axis, size] of expected.entries())
      call.expect(call.dimension(shape, axis), size, `axis ${axis} of ${what}`)
  }
  call.expect(call.dimension(x.shape, -1), K, 'the last axis')
  expectShape(codes, [N, blocks, (blockSize * bits) / 8], 'the codes')
  expectShape(scales, [N, blocks], 'the scales')
  if (zeroPoints) expectShape(zeroPoints, [N, Math.ceil((blocks * bits) / 8)], 'the zero points')
  if (bias) expectShape(bias, [N], 'the bias')
  if (groups) call.fail('group indices are not known here')
  if ([codes, ...(zeroPoints ? [zeroPoints] : [])].some(({ dtype }) => dtype !== 'uint8'))
    call.fail('codes and zero points must be uint8')
  if ([scales, ...(bias ? [bias] : [])].some(({ dtype }) => dtype !== x.dtype))
    call.fail('scales and bias must have the type of the first input')
  return [{ dtype: x.dtype, shape: withLast(x.shape, N) }]
}

const cast: Rule = (call) => {
  const { shape, elements } = call.input(0)
  const dtype = dataTypeOf(call.int('to')) ?? call.fail('the type is unknown')
  return [{ dtype, shape, ...(elements && dtype === 'int64' ? { elements } : {}) }]
}

const rules = {
  Abs: unary,
  Add: binary,
  Cast: cast,
  Clip: unary,
  Concat: concat,
  Conv: conv,
  ConvTranspose: convTranspose,
  Cos: unary,
  Div: binary,
  Equal: comparison,
  Erf: unary,
  Exp: unary,
  Expand: expand,
  Gather: gather,
  Gelu: unary,
  Gemm: gemm,
  Greater: comparison,
  Identity: (call) => [call.input(0)].map(({ dtype, shape }) => ({ dtype, shape })),
  InstanceNormalization: unary,
  LayerNormalization: layerNormalization,
  Less: comparison,
  Log: unary,
  MatMul: matMul,
  Max: binary,
  Min: binary,
  Mul: binary,
  Neg: unary,
  Pad: pad,
  Pow: binary,
  Range: range,
  Reciprocal: unary,
  ReduceMean: reduction,
  ReduceSum: reduction,
  Reshape: reshape,
  Resize: resize,
  ScatterElements: scatterElements,
  Shape: shapeOf,
  Sigmoid: unary,
  Sign: unary,
  SimplifiedLayerNormalization: layerNormalization,
  Sin: unary,
  Slice: slice,
  Softmax: unary,
  Split: split,
  Sqrt: unary,
  Squeeze: squeeze,
  Sub: binary,
  Tanh: unary,
  Transpose: transpose,
  Unsqueeze: unsqueeze,
  Where: where,
  'com.microsoft.FastGelu': unary,
  'com.microsoft.FusedMatMul': matMul,
  'com.microsoft.MatMulNBits': matMulNBits,
  'com.microsoft.MultiHeadAttention': multiHeadAttention,
  'com.microsoft.QuickGelu': unary,
  'com.microsoft.SkipLayerNormalization': skipLayerNormalization,
  'com.microsoft.SkipSimplifiedLayerNormalization': skipLayerNormalization,
} satisfies Record<string, Rule>
