/** Gradients of the operators that only move elements: the cotangents move back, and meet where an element was copied. */
import { product, type Dimension } from '../dimension.ts'
import { integers, type Shape, type Value } from '../ir.ts'
import {
  Concat,
  Expand,
  Pad,
  ReduceSum,
  Reshape,
  ScatterElements,
  Slice,
  SplitAt,
  Squeeze,
  Transpose,
  Unsqueeze,
} from '../ops.ts'
import type { Call, Rule } from './call.ts'
import { filledLike, reshapeLike, shapeValue, sizeValue, sumTo } from './broadcast.ts'

const reshape: Rule = (call) => [() => reshapeLike(call.cotangent, call.input(0))]

const transpose: Rule = (call) => [
  () => {
    const order = call.ints('perm')
    return Transpose(
      call.cotangent,
      order.map((_, axis) => order.indexOf(axis)),
    )
  },
]

const expand: Rule = (call) => [() => sumTo(call.cotangent, call.input(0))]
const unsqueeze: Rule = (call) => [() => Squeeze(call.cotangent, call.numbers(1))]
const squeeze: Rule = (call) => [() => Unsqueeze(call.cotangent, call.axes(1, call.input(0).shape.length))]

const concat: Rule = (call) => {
  const values = call.node.inputs.map((_, i) => call.input(i))
  const axis = (call.int('axis') + call.output().shape.length) % call.output().shape.length
  let parts: readonly Value[] | undefined
  const split = (): readonly Value[] => {
    const sizes = Concat(
      values.map((value) => sizeValue(value.shape[axis] ?? 1, [value])),
      { axis: 0 },
    )
    return SplitAt(call.cotangent, sizes, { axis })
  }
  return values.map((_, i) => () => (parts ??= split())[i] ?? call.fail(`part ${i} is missing`))
}

/** Parts that nobody needs are zero. */
const split: Rule = (call) => [
  () =>
    Concat(
      call.node.outputs.map((part, i) => call.cotangents[i] ?? filledLike(0, part)),
      { axis: call.int('axis', 0) },
    ),
]

const slice: Rule = (call) => [
  () => {
    const x = call.input(0)
    const rank = x.shape.length
    const [starts, ends, axes] = [call.numbers(1), call.numbers(2), call.axes(3, rank)]
    if (call.node.inputs[4] && call.numbers(4).some((step) => step !== 1)) call.fail('steps are not covered')
    const pads = Array.from({ length: 2 * rank }, () => 0)
    for (const [i, axis] of axes.entries()) {
      const size = x.shape[axis] ?? 1
      pads[axis] = before(call, size, starts[i] ?? 0)
      pads[axis + rank] = after(call, size, ends[i] ?? 0)
    }
    return Pad(call.cotangent, pads)
  },
]

/** How many elements of an axis lie before a slice that starts there. */
function before(call: Call, size: Dimension, start: number): number {
  if (start >= 0) return start
  return typeof size === 'number'
    ? size + start
    : call.fail('a start counted from the end of a symbolic axis is not covered')
}

/** How many elements of an axis lie behind a slice that ends there. */
function after(call: Call, size: Dimension, end: number): number {
  if (end < 0) return -end
  if (typeof size === 'number') return Math.max(size - end, 0)
  return end >= Number.MAX_SAFE_INTEGER ? 0 : call.fail('an end within a symbolic axis is not covered')
}

const pad: Rule = (call) => [
  () => {
    const pads = call.numbers(1)
    const axes = call.input(0).shape.map((_, axis) => axis)
    if (pads.some((count) => count < 0)) call.fail('negative pads are not covered')
    const ends = axes.map((axis) => pads[axis + axes.length] ?? 0)
    return Slice(
      call.cotangent,
      axes.map((axis) => pads[axis] ?? 0),
      ends.map((count) => (count === 0 ? Number.MAX_SAFE_INTEGER : -count)),
      axes,
    )
  },
]

/** Adds up what was gathered from the same place, in the order of the indices. */
const gather: Rule = (call) => [
  () => {
    const [data, indices, g] = [call.input(0), call.input(1), call.cotangent]
    const rank = data.shape.length
    const axis = (call.int('axis', 0) + rank) % rank
    const along = (count: Dimension): Shape => data.shape.with(axis, count)
    const count = product(indices.shape)
    const list = Reshape(indices, integers(...data.shape.map((_, i) => (i === axis ? -1 : 1))))
    const flat = Reshape(
      g,
      Concat(
        data.shape.map((size, i) => (i === axis ? integers(-1) : sizeValue(size, [data]))),
        { axis: 0 },
      ),
    )
    return ScatterElements(filledLike(0, data), Expand(list, shapeValue(along(count), flat)), flat, {
      axis,
      reduction: 'add',
    })
  },
]

/** Whole factors, each element repeated: the sum over its copies. */
const resize: Rule = (call) => [
  () => {
    const [x, scales] = [call.input(0), call.input(2)]
    const { mode, coordinate_transformation_mode: coordinates, nearest_mode: rounding } = call.node.attributes
    if (
      scales.kind !== 'constant' ||
      mode !== 'nearest' ||
      coordinates !== 'asymmetric' ||
      rounding !== 'floor'
    ) {
      return call.fail('only repetition (nearest, asymmetric, floor) by constant scales is covered')
    }
    const factors = Array.from(scales.data)
    if (factors.some((factor) => !Number.isInteger(factor))) call.fail('the scales must be whole')
    const blocks = x.shape.flatMap((size, i): [Value, number][] => {
      const factor = factors[i] ?? 1
      const kept: [Value, number] = [sizeValue(size, [x]), 1]
      return factor === 1 ? [kept] : [kept, [integers(factor), factor]]
    })
    const copies = blocks.flatMap(([, factor], axis) => (factor === 1 ? [] : [axis]))
    const target = Concat(
      blocks.map(([size]) => size),
      { axis: 0 },
    )
    return copies.length === 0
      ? call.cotangent
      : ReduceSum(Reshape(call.cotangent, target), copies, { keepdims: 0 })
  },
]

export const arrangement = {
  Concat: concat,
  Expand: expand,
  Gather: gather,
  Pad: pad,
  Reshape: reshape,
  Resize: resize,
  Slice: slice,
  Split: split,
  Squeeze: squeeze,
  Transpose: transpose,
  Unsqueeze: unsqueeze,
} satisfies Record<string, Rule>
