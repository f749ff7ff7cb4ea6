/**
 * Weight-only quantisation: a matrix (rows, columns) in blocks along its rows, each element = scale · (code − zero point) with a
 * scale and a zero point of its block's own. The layout is that of ONNX Runtime's operator com.microsoft.MatMulNBits.
 */
import type { Dtype } from './dtypes.ts'

export interface BlockFormat {
  readonly bits: 4 | 8
  /** Elements along a row that share a scale; the last block of a row may have fewer. */
  readonly blockSize: number
}

export interface QuantisedRows {
  /** (rows, blocks, blockSize · bits / 8), the lowest bits first. */
  readonly codes: Uint8Array<ArrayBuffer>
  /** (rows, blocks) */
  readonly scales: Float16Array<ArrayBuffer>
  /** (rows, ⌈blocks · bits / 8⌉), packed as the codes are. */
  readonly zeroPoints: Uint8Array<ArrayBuffer>
}

/** What became of the weights, as sums over all of them. */
export interface WeightSums {
  /** Of w², of q², and of w · q. */
  readonly original: number
  readonly quantised: number
  readonly product: number
  /** Of (w − q)². */
  readonly error: number
}

export const noWeights: WeightSums = { original: 0, quantised: 0, product: 0, error: 0 }

export const addSums = (a: WeightSums, b: WeightSums): WeightSums => ({
  original: a.original + b.original,
  quantised: a.quantised + b.quantised,
  product: a.product + b.product,
  error: a.error + b.error,
})

export const blocksPerRow = (columns: number, { blockSize }: Pick<BlockFormat, 'blockSize'>): number =>
  Math.ceil(columns / blockSize)

export const packedBytes = (count: number, bits: BlockFormat['bits']): number => Math.ceil((count * bits) / 8)

/** Keys of the tensors that stand for a matrix: its codes under its own key, the scales, the zero points. */
export const partKeys = (key: string) => [key, `${key}_scales`, `${key}_zero_points`] as const

/** The matrix that a tensor of this key and type is a part of; undefined for one that is no part. */
export function matrixKey(key: string, dtype: Dtype): string | undefined {
  const ending = partKeys('')
    .slice(1)
    .find((each) => key.endsWith(each))
  if (ending !== undefined) return key.slice(0, -ending.length)
  return dtype === 'U8' ? key : undefined
}

export function emptyRows(rows: number, columns: number, format: BlockFormat): QuantisedRows {
  const { bits, blockSize } = format
  const blocks = blocksPerRow(columns, format)
  return {
    codes: new Uint8Array(rows * blocks * packedBytes(blockSize, bits)),
    scales: new Float16Array(rows * blocks),
    zeroPoints: new Uint8Array(rows * packedBytes(blocks, bits)),
  }
}

/**
 * Quantises whole rows into their place among `into`, which is all zero there.
 *
 * Each block's range and with it its scale is tried at several sizes, since clipping its one largest weight may serve the others;
 * for each, the best scale of the codes that result is known in closed form: of all q = s · d with given d = code − zero point,
 * s = w·d / d·d leaves the least error, |w|² − (w·d)² / d·d.
 * @param values (some rows, columns)
 * @param firstRow where in `into` they go
 * @returns NaN or infinite sums where a weight is no finite number or a scale passes what float16 holds
 */
export function quantiseRows(
  values: Float32Array,
  columns: number,
  format: BlockFormat,
  { codes, scales, zeroPoints }: QuantisedRows,
  firstRow: number,
): WeightSums {
  const { bits, blockSize } = format
  const largest = 2 ** bits - 1
  const shrinkings = bits === 4 ? [1, 0.95, 0.9, 0.85] : [1, 0.97]
  const blocks = blocksPerRow(columns, format)
  const [codeBytes, zeroBytes] = [packedBytes(blockSize, bits), packedBytes(blocks, bits)]
  let [original, quantised, product, error] = [0, 0, 0, 0]

  for (let row = 0; row * columns < values.length; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * blockSize
      const to = Math.min(from + blockSize, (row + 1) * columns)
      let [low, high] = [0, 0]
      for (let i = from; i < to; i++) {
        const w = values[i]!
        if (w < low) low = w
        else if (w > high) high = w
      }
      const step = (high - low) / largest
      // Zero is always among the values: of a block of zeros, and of what fills the last block.
      const zero = step > 0 ? Math.round(-low / step) : 0
      let [bestGain, bestScale] = [0, 0]
      for (const shrinking of shrinkings) {
        if (step === 0) break
        const perStep = 1 / (step * shrinking)
        let [wd, dd] = [0, 0]
        for (let i = from; i < to; i++) {
          const w = values[i]!
          // One half, and truncation, round a number that is above zero; what is not is clamped.
          let code = (w * perStep + zero + 0.5) | 0
          code = code < 0 ? 0 : code > largest ? largest : code
          const d = code - zero
          wd += w * d
          dd += d * d
        }
        const gain = dd > 0 ? (wd * wd) / dd : 0
        if (gain > bestGain) {
          bestGain = gain
          bestScale = wd / dd
        }
      }

      const at = (firstRow + row) * blocks + block
      scales[at] = bestScale
      const scale = scales[at]
      const perStep = scale > 0 ? 1 / scale : 0
      const bit = block * bits
      zeroPoints[(firstRow + row) * zeroBytes + (bit >> 3)]! |= zero << (bit & 7)
      for (let i = 0; i < blockSize; i++) {
        const w = from + i < to ? values[from + i]! : 0
        let code = (w * perStep + zero + 0.5) | 0
        code = code < 0 ? 0 : code > largest ? largest : code
        const codeBit = i * bits
        codes[at * codeBytes + (codeBit >> 3)]! |= code << (codeBit & 7)
        const q = scale * (code - zero)
        original += w * w
        quantised += q * q
        product += w * q
        error += (w - q) * (w - q)
      }
    }
  }
  return { original, quantised, product, error }
}

/** The matrix that the rows stand for: (rows, columns). */
export function dequantiseRows(
  { codes, scales, zeroPoints }: QuantisedRows,
  columns: number,
  format: BlockFormat,
): Float32Array<ArrayBuffer> {
  const { bits, blockSize } = format
  const mask = 2 ** bits - 1
  const blocks = blocksPerRow(columns, format)
  const [codeBytes, zeroBytes] = [packedBytes(blockSize, bits), packedBytes(blocks, bits)]
  const values = new Float32Array((scales.length / blocks) * columns)
  for (let i = 0; i < values.length; i++) {
    const [row, column] = [Math.floor(i / columns), i % columns]
    const block = Math.floor(column / blockSize)
    const [zeroBit, codeBit] = [block * bits, (column % blockSize) * bits]
    const zero = (zeroPoints[row * zeroBytes + (zeroBit >> 3)]! >> (zeroBit & 7)) & mask
    const code = (codes[(row * blocks + block) * codeBytes + (codeBit >> 3)]! >> (codeBit & 7)) & mask
    values[i] = scales[row * blocks + block]! * (code - zero)
  }
  return values
}
