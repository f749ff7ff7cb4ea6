/**
 * Products with matrices that a checkpoint stores in blocks of 4 or 8 bits.
 *
 * Shapes: M rows, K in, N out.
 */
import { integers, scalar, type Value } from '../graph/ir.ts'
import { Add, Cast, Concat, Gemm, MatMulNBits, Mul, Reshape, Slice, Sub, Unsqueeze, type BlockQuantised } from '../graph/ops.ts'
import type { Scope, WeightFormat, WeightStorage } from '../graph/scope.ts'
import { blocksPerRow, packedBytes, partKeys } from '../weights/quantisation.ts'

export interface QuantisedMatrix extends BlockQuantised {
  readonly zeroPoints: Value
  readonly size: readonly [N: number, K: number]
  readonly format: Blocks
}

type Blocks = Extract<WeightFormat, { kind: 'blocks' }>

/** The three tensors that stand for the matrix `weight` of a scope, the scales as float32. */
export function quantisedMatrix(scope: Scope, size: readonly [N: number, K: number], format: Blocks): QuantisedMatrix {
  const [N, K] = size
  const { bits, blockSize } = format
  const blocks = blocksPerRow(K, format)
  const [codes, scales, zeroPoints] = partKeys('weight')
  return {
    size,
    format,
    codes: scope.parameter(codes, [N, blocks, packedBytes(blockSize, bits)], 'uint8'),
    // The library folds the cast when it loads the model.
    scales: Cast(scope.parameter(scales, [N, blocks], 'float16'), 'float32'),
    zeroPoints: scope.parameter(zeroPoints, [N, packedBytes(blocks, bits)], 'uint8'),
  }
}

/** x (M, K) · matrixᵀ + bias: (M, N). */
export function product(x: Value, matrix: QuantisedMatrix, bias: Value | undefined, kernels: WeightStorage['kernels']): Value {
  if (kernels === 'elementary') return Gemm(x, dequantised(matrix), bias, { transB: 1 })
  const [N, K] = matrix.size
  const { bits, blockSize, activations } = matrix.format
  const accuracyLevel = activations === 'int8' ? 4 : 1
  return MatMulNBits(x, matrix, bias, { K, N, bits, block_size: blockSize, accuracy_level: accuracyLevel })
}

/** The matrix in float32: (N, K). */
function dequantised({ codes, scales, zeroPoints, size, format }: QuantisedMatrix): Value {
  const [N, K] = size
  const { bits, blockSize } = format
  const blocks = blocksPerRow(K, format)
  const zeros = unpacked(zeroPoints, [N, blocks, 1], bits)
  const steps = Sub(unpacked(codes, [N, blocks, blockSize], bits), zeros)
  const padded = Reshape(Mul(steps, Unsqueeze(scales, [2])), integers(N, blocks * blockSize))
  return blocks * blockSize === K ? padded : Slice(padded, [0], [K], [1])
}

/** Codes as numbers of float32, without those that fill the last byte of a row. */
function unpacked(packed: Value, shape: readonly [number, number, number], bits: 4 | 8): Value {
  const [N, ...rest] = shape
  const bytes = Cast(packed, 'float32')
  if (bits === 8) return Reshape(bytes, integers(...shape))
  const high = Cast(Cast(Mul(bytes, scalar(1 / 16)), 'int32'), 'float32')
  const low = Add(bytes, Mul(high, scalar(-16)))
  const pairs = Concat(
    [low, high].map((half) => Unsqueeze(half, [half.shape.length])),
    { axis: -1 },
  )
  const count = rest[0] * rest[1]
  return Reshape(Slice(Reshape(pairs, integers(N, -1)), [0], [count], [1]), integers(...shape))
}
