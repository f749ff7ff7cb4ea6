/** Shapes of cotangents: what broadcasting, reductions and reshapes did, undone over symbolic sizes. */
import { product, sameDimension, type Dimension } from '../dimension.ts'
import { integers, sameShape, scalar, type Shape, type Value } from '../ir.ts'
import { Cast, Concat, Expand, Gemm, Mul, ReduceSum, Reshape, Shape as ShapeOf } from '../ops.ts'
import { shapeText } from '../shapes.ts'

/** A number of the value's own type. */
export const numberLike = (number: number, { dtype }: Value): Value => scalar(number, dtype)

/**
 * A shape as a value; sizes that are symbolic are read off the axes of `like`.
 * @throws {TypeError} when none of them has such a size
 */
export function shapeValue(shape: Shape, ...like: readonly Value[]): Value {
  if (shape.every((size) => typeof size === 'number')) return integers(...shape)
  const same = like.find((value) => sameShape(value.shape, shape))
  if (same) return ShapeOf(same)
  return Concat(
    shape.map((size) => sizeValue(size, like)),
    { axis: 0 },
  )
}

/** One size as a list of one. */
export function sizeValue(size: Dimension, like: readonly Value[]): Value {
  if (typeof size === 'number') return integers(size)
  for (const value of like) {
    const axis = value.shape.findIndex((other) => sameDimension(other, size))
    if (axis >= 0) return ShapeOf(value, { start: axis, end: axis + 1 })
  }
  throw new TypeError(`no axis of ${like.map(({ shape }) => shapeText(shape)).join(', ')} is ${size.text}`)
}

export const reshapeLike = (x: Value, like: Value): Value =>
  sameShape(x.shape, like.shape) ? x : Reshape(x, shapeValue(like.shape, like))

export const expandLike = (x: Value, like: Value): Value =>
  sameShape(x.shape, like.shape) ? x : Expand(x, shapeValue(like.shape, like))

/** `number` at every element of the shape of `like`. */
export const filledLike = (number: number, like: Value): Value =>
  Expand(numberLike(number, like), shapeValue(like.shape, like))

/** The cotangent of `like` when broadcasting made of it what has the cotangent x: the sum over the axes that it stretched. */
export function sumTo(x: Value, like: Value): Value {
  const extra = x.shape.length - like.shape.length
  const stretched = x.shape.flatMap((size, axis) =>
    axis < extra || (like.shape[axis - extra] === 1 && size !== 1) ? [axis] : [],
  )
  if (stretched.length === 0) return x
  const last = x.shape.length - 1
  const lastSize = x.shape[last]
  if (stretched.length === last && !stretched.includes(last) && typeof lastSize === 'number') {
    return reshapeLike(sumOfRows(Reshape(x, integers(-1, lastSize))), like)
  }
  return reshapeLike(ReduceSum(x, stretched), like)
}

/** (rows, D) → (1, D). As a product with ones, which ONNX Runtime computes faster than a reduction. */
function sumOfRows(x: Value): Value {
  const ones = Expand(numberLike(1, x), Concat([integers(1), ShapeOf(x, { start: 0, end: 1 })], { axis: 0 }))
  return Gemm(ones, x)
}

/** How many elements of x a reduction over these axes takes together, as a number of x's type. */
export function countAlong(x: Value, axes: readonly number[]): Value {
  const sizes = axes.map((axis) => x.shape[axis] ?? 1)
  const count = product(sizes)
  if (typeof count === 'number') return numberLike(count, x)
  return axes.map((axis): Value => Cast(ShapeOf(x, { start: axis, end: axis + 1 }), x.dtype)).reduce(Mul)
}
