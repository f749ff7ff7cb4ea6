/** Gradients of matrix products and convolutions. */
import { add, dimensionText, multiply, type Dimension } from '../dimension.ts'
import { integers, knownAxis, type Value } from '../ir.ts'
import {
  Concat,
  Conv,
  ConvTranspose,
  FusedMatMul,
  Gather,
  Gemm,
  Pad,
  ReduceSum,
  Reshape,
  Slice,
  Transpose,
} from '../ops.ts'
import type { Call, Rule } from './call.ts'
import { reshapeLike, sumTo } from './broadcast.ts'

interface Flips {
  readonly transA: 0 | 1
  readonly transB: 0 | 1
}
type Multiply = (a: Value, b: Value, flips: Flips) => Value

const bit = (value: number): 0 | 1 => (value === 0 ? 0 : 1)

/** With y = op(a) · op(b): d op(a) = g · op(b)ᵀ and d op(b) = op(a)ᵀ · g, each transposed when its operand was. */
const ofLeft = (times: Multiply, g: Value, b: Value, { transA, transB }: Flips): Value =>
  transA === 0
    ? times(g, b, { transA: 0, transB: bit(1 - transB) })
    : times(b, g, { transA: transB, transB: 1 })
const ofRight = (times: Multiply, g: Value, a: Value, { transA, transB }: Flips): Value =>
  transB === 0
    ? times(a, g, { transA: bit(1 - transA), transB: 0 })
    : times(g, a, { transA: 1, transB: transA })

const flipsOf = (call: Call): Flips => ({
  transA: bit(call.int('transA', 0)),
  transB: bit(call.int('transB', 0)),
})

const gemm: Rule = (call) => {
  if (call.float('alpha', 1) !== 1 || call.float('beta', 1) !== 1) call.fail('factors are not covered')
  const [a, b] = [call.input(0), call.input(1)]
  const times: Multiply = (left, right, flips) => Gemm(left, right, undefined, flips)
  return [
    () => ofLeft(times, call.cotangent, b, flipsOf(call)),
    () => ofRight(times, call.cotangent, a, flipsOf(call)),
    () => sumTo(call.cotangent, call.input(2)),
  ]
}

const matMul: Rule = (call) => {
  const [a, b, flips] = [call.input(0), call.input(1), flipsOf(call)]
  const alpha = call.float('alpha', 1)
  const times: Multiply = (left, right, flips) =>
    FusedMatMul(left, right, alpha === 1 ? flips : { ...flips, alpha: { float: alpha } })
  const flat = b.shape.length === 2 && a.shape.length > 2 && flips.transA === 0 && alpha === 1
  return [
    () => sumTo(ofLeft(times, call.cotangent, b, flips), a),
    // One matrix for a whole batch: its gradient is one product over all rows.
    () =>
      flat
        ? ofRight((x, y, how) => Gemm(x, y, undefined, how), asRows(call.cotangent), asRows(a), flips)
        : sumTo(ofRight(times, call.cotangent, a, flips), b),
  ]
}

/** (…, D) → (rows, D) */
const asRows = (x: Value): Value => Reshape(x, integers(-1, knownAxis(x, -1)))

interface Windows {
  readonly kernel: readonly number[]
  readonly strides: readonly number[]
  /** Before each axis, then after each. */
  readonly pads: readonly number[]
}

function windowsOf(call: Call): Windows {
  const weight = call.input(1)
  const kernel = weight.shape.slice(2).map((_, i) => knownAxis(weight, i + 2))
  if (call.int('group', 1) !== 1) call.fail('groups are not covered')
  return {
    kernel,
    strides: call.ints(
      'strides',
      kernel.map(() => 1),
    ),
    pads: call.ints(
      'pads',
      [...kernel, ...kernel].map(() => 0),
    ),
  }
}

const conv: Rule = (call) => [
  () => convInput(call, windowsOf(call)),
  () => convWeight(call, windowsOf(call)),
  () => channelSums(call.cotangent),
]

/** (B, C, …) → (C) */
const channelSums = (g: Value): Value =>
  ReduceSum(
    g,
    g.shape.flatMap((_, axis) => (axis === 1 ? [] : [axis])),
    { keepdims: 0 },
  )

/** Without strides it is a convolution of g with the kernel turned round, which is faster than ConvTranspose. */
function convInput(call: Call, { kernel, strides, pads }: Windows): Value {
  const [x, weight, g] = [call.input(0), call.input(1), call.cotangent]
  if (strides.every((stride) => stride === 1)) {
    const turned = kernel.reduce<Value>((kernels, size, i) => {
      if (size === 1) return kernels
      const backwards = integers(...Array.from({ length: size }, (_, j) => size - 1 - j))
      return Gather(kernels, backwards, { axis: i + 2 })
    }, weight)
    const inverse = pads.map((pad, i) => (kernel[i % kernel.length] ?? 1) - 1 - pad)
    if (inverse.some((pad) => pad < 0)) return call.fail('padding beyond the kernel is not covered')
    const swapped = Transpose(
      turned,
      weight.shape.map((_, axis) => (axis < 2 ? 1 - axis : axis)),
    )
    return Conv(g, swapped, undefined, { strides, pads: inverse })
  }
  const extra = kernel.map((size, i): number => {
    const covered = add(
      multiply(add(axisOf(g, i + 2), -1), strides[i] ?? 1),
      size - (pads[i] ?? 0) - (pads[i + kernel.length] ?? 0),
    )
    const rest = add(axisOf(x, i + 2), multiply(covered, -1))
    return typeof rest === 'number' ? rest : call.fail(`${dimensionText(rest)} positions are left over`)
  })
  return ConvTranspose(g, weight, { strides, pads, output_padding: extra })
}

const axisOf = ({ shape }: Value, axis: number): Dimension => shape[axis] ?? 1

/**
 * For every place of the kernel, the products of g with the part of x that this place sees. Measured three times as fast as one
 * convolution whose batch and channels are swapped.
 */
function convWeight(call: Call, { kernel, strides, pads }: Windows): Value {
  const [x, weight, g] = [call.input(0), call.input(1), call.cotangent]
  const padded = pads.some((pad) => pad !== 0) ? Pad(x, spatialPads(pads)) : x
  const flat = (value: Value): Value => Reshape(value, integers(0, 0, -1)) // (B, C, positions)
  const rows = flat(g)
  const axes = kernel.map((_, i) => i + 2)
  const places = kernel.reduce<readonly (readonly number[])[]>(
    (all, size) => all.flatMap((place) => Array.from({ length: size }, (_, i) => [...place, i])),
    [[]],
  )
  const products = places.map((place) => {
    const ends = place.map((start, i) => start - (kernel[i] ?? 1) + 1)
    const seen = Slice(
      padded,
      place,
      ends.map((end) => (end === 0 ? Number.MAX_SAFE_INTEGER : end)),
      axes,
      strides,
    )
    return FusedMatMul(rows, flat(seen), { transB: 1 }) // (B, O, C)
  })
  const together = ReduceSum(Concat(products, { axis: 2 }), [0], { keepdims: 0 }) // (O, places·C)
  if (products.length === 1) return reshapeLike(together, weight)
  const [out, channels] = [knownAxis(weight, 0), knownAxis(weight, 1)]
  const placesLast = Transpose(Reshape(together, integers(out, places.length, channels)), [0, 2, 1])
  return reshapeLike(placesLast, weight)
}

/** The pads of a convolution as Pad takes them, with those of batch and channels. */
function spatialPads(pads: readonly number[]): readonly number[] {
  const half = pads.length / 2
  return [0, 0, ...pads.slice(0, half), 0, 0, ...pads.slice(half)]
}

export const products = {
  'com.microsoft.FusedMatMul': matMul,
  Conv: conv,
  Gemm: gemm,
  MatMul: matMul,
} satisfies Record<string, Rule>
