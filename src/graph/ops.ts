/**
 * The operators as functions of values, with ONNX's own names (those of com.microsoft as well) and arguments in ONNX's order.
 * An operator with several outputs returns them in a tuple or list; optional outputs that nobody reads are not computed.
 */
import { elementTypes, type DataType } from './data-type.ts'
import { apply, integers, type Attributes, type Result, type Value } from './ir.ts'
import type { OperatorName } from './shapes.ts'

type Unary = (x: Value) => Result
type Binary = (a: Value, b: Value) => Result

function single(
  operator: OperatorName,
  inputs: readonly (Value | undefined)[],
  attributes: Attributes = {},
): Result {
  const [result] = apply(operator, inputs, attributes)
  if (result === undefined) throw new TypeError(`${operator} has no output`)
  return result
}

const unary =
  (operator: OperatorName): Unary =>
  (x) =>
    single(operator, [x])
const binary =
  (operator: OperatorName): Binary =>
  (a, b) =>
    single(operator, [a, b])

// Elementwise, with broadcasting.
export const Add = binary('Add')
export const Sub = binary('Sub')
export const Mul = binary('Mul')
export const Div = binary('Div')
export const Pow = binary('Pow')
export const Min = binary('Min')
export const Max = binary('Max')
export const Equal = binary('Equal')
export const Less = binary('Less')
export const Greater = binary('Greater')
export const Abs = unary('Abs')
export const Cos = unary('Cos')
export const Erf = unary('Erf')
export const Exp = unary('Exp')
export const Identity = unary('Identity')
export const Log = unary('Log')
export const Neg = unary('Neg')
export const Reciprocal = unary('Reciprocal')
export const Sigmoid = unary('Sigmoid')
export const Sign = unary('Sign')
export const Sin = unary('Sin')
export const Sqrt = unary('Sqrt')
export const Tanh = unary('Tanh')
export const Where = (condition: Value, yes: Value, no: Value): Result =>
  single('Where', [condition, yes, no])
export const Clip = (x: Value, low: Value, high: Value): Result => single('Clip', [x, low, high])
export const Gelu = (x: Value, attributes: { readonly approximate: 'none' | 'tanh' }): Result =>
  single('Gelu', [x], attributes)

export const Cast = (x: Value, dtype: DataType): Result => single('Cast', [x], { to: elementTypes[dtype] })

// Products.
export const MatMul = binary('MatMul')

/** a · b + bias, of two-dimensional values; transB = 1 takes b as (out, in), which is how checkpoints hold it. */
export const Gemm = (
  a: Value,
  b: Value,
  bias?: Value,
  attributes: { transA?: 0 | 1; transB?: 0 | 1 } = {},
): Result => single('Gemm', bias ? [a, b, bias] : [a, b], attributes)

export const Conv = (
  x: Value,
  weight: Value,
  bias: Value | undefined,
  attributes: {
    readonly strides?: readonly number[]
    readonly pads?: readonly number[]
    readonly group?: number
  },
): Result => single('Conv', bias ? [x, weight, bias] : [x, weight], attributes)

/** The product whose transpose is Conv: weight (C, out, …), where C are the channels of x. */
export const ConvTranspose = (
  x: Value,
  weight: Value,
  attributes: {
    readonly strides: readonly number[]
    readonly pads: readonly number[]
    readonly output_padding: readonly number[]
  },
): Result => single('ConvTranspose', [x, weight], attributes)

// Reductions and normalisation.
const reduction =
  (operator: OperatorName) =>
  (x: Value, axes: readonly number[], attributes: { keepdims?: 0 | 1 } = {}) =>
    single(operator, [x, integers(...axes)], { keepdims: 1, ...attributes })
export const ReduceMean = reduction('ReduceMean')
export const ReduceSum = reduction('ReduceSum')
export const Softmax = (x: Value, attributes: { readonly axis: number }): Result =>
  single('Softmax', [x], attributes)

/** @returns [normalised, mean, 1 / standard deviation] */
export const LayerNormalization = (
  x: Value,
  scale: Value,
  bias: Value | undefined,
  epsilon: number,
): readonly Result[] =>
  apply('LayerNormalization', bias ? [x, scale, bias] : [x, scale], { axis: -1, epsilon: { float: epsilon } })

export const InstanceNormalization = (x: Value, scale: Value, bias: Value, epsilon: number): Result =>
  single('InstanceNormalization', [x, scale, bias], { epsilon: { float: epsilon } })

/** RMS normalisation: x / √(mean(x²) + ε) · scale. A standard-domain operator of ONNX Runtime's own. */
export const SimplifiedLayerNormalization = (x: Value, scale: Value, epsilon: number): Result =>
  single('SimplifiedLayerNormalization', [x, scale], { axis: -1, epsilon: { float: epsilon } })

// Shapes.
export const Reshape = (x: Value, shape: Value): Result => single('Reshape', [x, shape])
export const Shape = (
  x: Value,
  attributes: { readonly start?: number; readonly end?: number } = {},
): Result => single('Shape', [x], attributes)
export const Transpose = (x: Value, perm: readonly number[]): Result => single('Transpose', [x], { perm })
export const Gather = (
  data: Value,
  indices: Value,
  attributes: { readonly axis: number } = { axis: 0 },
): Result => single('Gather', [data, indices], attributes)
export const Concat = (values: readonly Value[], attributes: { readonly axis: number }): Result =>
  single('Concat', values, attributes)
export const Slice = (
  x: Value,
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[],
  steps?: readonly number[],
): Result =>
  single('Slice', [x, ...[starts, ends, axes, ...(steps ? [steps] : [])].map((list) => integers(...list))])
/** In equal parts, or in parts of the given sizes. */
export const Split = (
  x: Value,
  attributes: { readonly axis: number; readonly num_outputs: number },
): readonly Result[] => apply('Split', [x], attributes)
export const SplitAt = (x: Value, sizes: Value, attributes: { readonly axis: number }): readonly Result[] =>
  apply('Split', [x, sizes], attributes)
/** data with updates added (or written) where indices, of the updates' shape, say along one axis. */
export const ScatterElements = (
  data: Value,
  indices: Value,
  updates: Value,
  attributes: { readonly axis: number; readonly reduction: 'none' | 'add' },
): Result => single('ScatterElements', [data, indices, updates], attributes)
export const Unsqueeze = (x: Value, axes: readonly number[]): Result =>
  single('Unsqueeze', [x, integers(...axes)])
export const Squeeze = (x: Value, axes: readonly number[]): Result =>
  single('Squeeze', [x, integers(...axes)])
export const Expand = (x: Value, shape: Value): Result => single('Expand', [x, shape])
export const Pad = (x: Value, pads: readonly number[]): Result => single('Pad', [x, integers(...pads)])
export const Range = (start: Value, limit: Value, delta: Value): Result =>
  single('Range', [start, limit, delta])
export const Resize = (x: Value, scales: Value, attributes: Attributes): Result =>
  single('Resize', [x, undefined, scales], attributes)

// com.microsoft: ONNX Runtime's fused operators.
export const MultiHeadAttention = (
  { query, key, value, bias }: { query: Value; key: Value; value: Value; bias?: Value | undefined },
  { heads, scale }: { readonly heads: number; readonly scale: number },
): Result =>
  single(
    'com.microsoft.MultiHeadAttention',
    bias ? [query, key, value, undefined, undefined, bias] : [query, key, value],
    { num_heads: heads, scale: { float: scale } },
  )

/** tanh-approximated GELU of x + bias. */
export const FastGelu = (x: Value, bias?: Value): Result =>
  single('com.microsoft.FastGelu', bias ? [x, bias] : [x])

/** x · sigmoid(alpha · x). */
export const QuickGelu = (x: Value, alpha: number): Result =>
  single('com.microsoft.QuickGelu', [x], { alpha: { float: alpha } })

/** alpha · a · b, either of them transposed in its last two axes. */
export const FusedMatMul = (
  a: Value,
  b: Value,
  attributes: { transA?: 0 | 1; transB?: 0 | 1; alpha?: { readonly float: number } },
): Result => single('com.microsoft.FusedMatMul', [a, b], attributes)

/** A matrix (N, K) in blocks along K: element = scale of its block · (code − zero point of its block). */
export interface BlockQuantised {
  readonly codes: Value // uint8 (N, blocks, blockSize · bits / 8), the lowest bits first
  readonly scales: Value // (N, blocks)
  /** 2^(bits − 1) everywhere when left out. */
  readonly zeroPoints?: Value | undefined // uint8 (N, ⌈blocks · bits / 8⌉)
}

/** x · matrixᵀ + bias. Accuracy level 4 lets the kernel round x to int8, block by block; 1 computes in float32. */
export const MatMulNBits = (
  x: Value,
  { codes, scales, zeroPoints }: BlockQuantised,
  bias: Value | undefined,
  attributes: {
    readonly K: number
    readonly N: number
    readonly bits: 4 | 8
    readonly block_size: number
    readonly accuracy_level: 0 | 1 | 2 | 3 | 4
  },
): Result => {
  const optional = bias ? [zeroPoints, undefined, bias] : zeroPoints ? [zeroPoints] : []
  return single('com.microsoft.MatMulNBits', [x, codes, scales, ...optional], attributes)
}

interface SkipNormalization {
  readonly x: Value
  readonly skip: Value
  readonly scale: Value
  readonly epsilon: number
}

/** @returns [normalised x + skip, x + skip] */
export function SkipLayerNormalization({
  x,
  skip,
  scale,
  epsilon,
}: SkipNormalization): readonly [Result, Result] {
  return normalisedAndSum('com.microsoft.SkipLayerNormalization', [x, skip, scale], epsilon)
}

/** @returns [RMS-normalised x + skip, x + skip] */
export function SkipSimplifiedLayerNormalization({
  x,
  skip,
  scale,
  epsilon,
}: SkipNormalization): readonly [Result, Result] {
  return normalisedAndSum('com.microsoft.SkipSimplifiedLayerNormalization', [x, skip, scale], epsilon)
}

function normalisedAndSum(
  operator: OperatorName,
  inputs: readonly Value[],
  epsilon: number,
): readonly [Result, Result] {
  const [normalised, , , sum] = apply(operator, inputs, { epsilon: { float: epsilon } })
  if (normalised === undefined || sum === undefined) throw new TypeError(`${operator} has no output`)
  return [normalised, sum]
}
