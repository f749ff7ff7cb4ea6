/** Layers that several models share, with their parameters at the scope that is passed in. */
import type { Dimension } from '../graph/dimension.ts'
import { integers, knownAxis, lastAxis, type Value } from '../graph/ir.ts'
import { Cast, Conv, Gather, Gemm, Reshape, Unsqueeze } from '../graph/ops.ts'
import type { Scope } from '../graph/scope.ts'
import { product, quantisedMatrix } from './quantised.ts'

/**
 * x · weightᵀ + bias with the checkpoint's (out, in) weight as it lies there, in full or in blocks of 4 or 8 bits. All leading
 * axes become one, so that the whole layer is a single matrix product.
 */
export function linear(scope: Scope, x: Value, width: number, { bias = true }: { readonly bias?: boolean } = {}): Value {
  const depth = lastAxis(x)
  const added = (): Value | undefined => (bias ? scope.parameter('bias', [width]) : undefined)
  const format = scope.formatOf('weight')
  if (format?.kind !== 'blocks') return affine(scope, x, scope.parameter('weight', [width, depth]), added())
  const matrix = quantisedMatrix(scope, [width, depth], format)
  return overRows(scope, x, (rows) => product(rows, matrix, added(), scope.kernels))
}

/** The same with weight (out, in) and bias (out) given. */
export function affine(scope: Scope, x: Value, weight: Value, bias: Value | undefined): Value {
  return overRows(scope, x, (rows) => Gemm(rows, weight, bias, { transB: 1 }))
}

/** weight · x + bias with the checkpoint's (out, in) weight in full, for an x (in, columns): (out, columns). */
export function linearOfColumns(scope: Scope, x: Value, width: number): Value {
  const weight = scope.parameter('weight', [width, knownAxis(x, 0)])
  return Gemm(weight, x, Unsqueeze(scope.parameter('bias', [width]), [1]))
}

/** A function of (rows, in) over all leading axes of (…, in) at once: (…, out). */
export function overRows(scope: Scope, x: Value, compute: (rows: Value) => Value): Value {
  if (x.shape.length === 2) return compute(x)
  const result = compute(Reshape(x, integers(-1, lastAxis(x)))) // (rows, out)
  return reshape(scope, result, [...x.shape.slice(0, -1), lastAxis(result)], x) // (…, out)
}

/** The rows of the table (count, width) that the indices name, in float32 however the table is stored: (…, width). */
export function embedding(scope: Scope, indices: Value, count: number, width: number): Value {
  if (scope.formatOf('weight')?.kind !== 'float16') return Gather(scope.parameter('weight', [count, width]), indices)
  return Cast(Gather(scope.parameter('weight', [count, width], 'float16'), indices), 'float32')
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
