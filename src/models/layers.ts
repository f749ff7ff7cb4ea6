/** Layers that several models share, with their parameters at the scope that is passed in. */
import type { Dimension } from '../graph/dimension.ts'
import { integers, knownAxis, lastAxis, type Value } from '../graph/ir.ts'
import { Conv, Gemm, Reshape } from '../graph/ops.ts'
import type { Scope } from '../graph/scope.ts'

/**
 * x · weightᵀ + bias with the checkpoint's (out, in) weight as it lies there. All leading axes become one, so that the whole
 * layer is a single matrix product.
 */
export function linear(scope: Scope, x: Value, width: number, { bias = true }: { readonly bias?: boolean } = {}): Value {
  const weight = scope.parameter('weight', [width, lastAxis(x)])
  return affine(scope, x, weight, bias ? scope.parameter('bias', [width]) : undefined)
}

/** The same with weight (out, in) and bias (out) given. */
export function affine(scope: Scope, x: Value, weight: Value, bias: Value | undefined): Value {
  const leading = x.shape.slice(0, -1) // (…)
  const rows = x.shape.length === 2 ? x : Reshape(x, integers(-1, lastAxis(x))) // (rows, in)
  const result = Gemm(rows, weight, bias, { transB: 1 }) // (rows, out)
  return x.shape.length === 2 ? result : reshape(scope, result, [...leading, lastAxis(result)], x) // (…, out)
}

/** Reshape to any shape whose symbolic sizes the model's inputs, or the axes of `like`, tell. */
export function reshape(scope: Scope, x: Value, shape: readonly Dimension[], like: Value): Value {
  return Reshape(x, scope.shape(shape, like))
}

interface ConvOptions {
  readonly channels: number
  readonly kernel: number
  readonly stride?: number
  /** Top, left, bottom, right; as much on every side as keeps the size when it is not given. */
  readonly pads?: readonly number[]
}

export function conv2d(scope: Scope, x: Value, { channels, kernel, stride = 1, pads }: ConvOptions): Value {
  const same = Math.floor(kernel / 2)
  const weight = scope.parameter('weight', [channels, knownAxis(x, 1), kernel, kernel])
  return Conv(x, weight, scope.parameter('bias', [channels]), {
    strides: [stride, stride],
    pads: pads ?? [same, same, same, same],
  })
}
