import { describe, expect, test } from 'vitest'
import { TorchGenerator } from '../../src/diffusion/noise.ts'
import { dequantiseRows, emptyRows, quantiseRows, type BlockFormat } from '../../src/weights/quantisation.ts'

const normal = (count: number, seed: number): Float32Array<ArrayBuffer> => {
  const values = new Float32Array(count)
  new TorchGenerator(seed).fillNormal(values)
  return values
}

const formats = ([4, 8] as const).flatMap((bits) =>
  [16, 32].map((blockSize): BlockFormat => ({ bits, blockSize })),
)

/** The operator's documentation in float64, element by element: codes and zero points packed along a row, low bits first. */
function meaning(
  rows: ReturnType<typeof emptyRows>,
  [row, column]: readonly [number, number],
  columns: number,
  { bits, blockSize }: BlockFormat,
) {
  const blocks = Math.ceil(columns / blockSize)
  const perByte = 8 / bits
  const nibble = (bytes: Uint8Array, rowBytes: number, index: number): number =>
    Math.floor(bytes[row * rowBytes + Math.floor(index / perByte)]! / 2 ** (bits * (index % perByte))) %
    2 ** bits
  const block = Math.floor(column / blockSize)
  const code = nibble(rows.codes, (blocks * blockSize) / perByte, column)
  const zero = nibble(rows.zeroPoints, Math.ceil(blocks / perByte), block)
  const scale = rows.scales[row * blocks + block]!
  return { value: scale * (code - zero), scale, zero }
}

describe.each(formats)('$bits bits in blocks of $blockSize', (format) => {
  const [count, columns] = [6, 52]
  const weights = normal(count * columns, 1)
  const rows = emptyRows(count, columns, format)
  const sums = quantiseRows(weights, columns, format, rows, 0)

  test('every weight becomes the nearest of the values that its block has', () => {
    for (const [i, w] of weights.entries()) {
      const at = [Math.floor(i / columns), i % columns] as const
      const { value, scale, zero } = meaning(rows, at, columns, format)
      const values = Array.from({ length: 2 ** format.bits }, (_, code) => scale * (code - zero))
      const least = Math.min(...values.map((each) => Math.abs(each - w)))
      expect(Math.abs(value - w)).toBeCloseTo(least, 12)
    }
  })
  test('what fills the last block stands for zero', () => {
    const full = Math.ceil(columns / format.blockSize) * format.blockSize
    for (let row = 0; row < count; row++) {
      for (let column = columns; column < full; column++)
        expect(meaning(rows, [row, column], columns, format).value).toBeCloseTo(0)
    }
  })
  test('dequantised rows are what the operator computes with, and the sums are theirs', () => {
    const expected = Array.from(
      weights,
      (_, i) => meaning(rows, [Math.floor(i / columns), i % columns], columns, format).value,
    )
    const values = dequantiseRows(rows, columns, format)
    expect([...values]).toEqual(expected.map(Math.fround))
    const total = (of: (w: number, q: number) => number): number =>
      expected.reduce((sum, q, i) => sum + of(weights[i]!, q), 0)
    expect(sums.error).toBeCloseTo(
      total((w, q) => (w - q) ** 2),
      9,
    )
    expect(sums.original).toBeCloseTo(
      total((w) => w * w),
      9,
    )
    expect(sums.quantised).toBeCloseTo(
      total((_, q) => q * q),
      9,
    )
    expect(sums.product).toBeCloseTo(
      total((w, q) => w * q),
      9,
    )
  })
  test('rows that come in pieces are those that come at once', () => {
    const pieces = emptyRows(count, columns, format)
    quantiseRows(weights.slice(0, 2 * columns), columns, format, pieces, 0)
    quantiseRows(weights.slice(2 * columns), columns, format, pieces, 2)
    expect(pieces).toEqual(rows)
  })
})

test('normal weights in 4 bits err by less than rounding over their range does', () => {
  const [columns, format] = [4096, { bits: 4, blockSize: 32 } as const]
  const weights = normal(16 * columns, 2)
  const { error, original, product, quantised } = quantiseRows(
    weights,
    columns,
    format,
    emptyRows(16, columns, format),
    0,
  )
  let rounded = 0
  for (let from = 0; from < weights.length; from += 32) {
    const block = weights.subarray(from, from + 32)
    const [low, high] = [Math.min(...block), Math.max(...block)]
    const step = (high - low) / 15
    const zero = Math.round(-low / step)
    for (const w of block)
      rounded += (w - step * (Math.min(15, Math.max(0, Math.round(w / step) + zero)) - zero)) ** 2
  }
  expect(Math.sqrt(error / original)).toBeLessThan(0.079)
  expect(Math.sqrt(rounded / original)).toBeGreaterThan(0.08)
  expect(product / Math.sqrt(original * quantised)).toBeGreaterThan(0.9968)
})

test.each([
  ['zeros', 0, 0],
  ['one positive number', 0.37, 2e-4],
  ['one negative number', -2.5, 2e-3],
])('a block of nothing but %s keeps it to the precision of its scale', (_name, value, bound) => {
  const format = { bits: 4, blockSize: 32 } as const
  const rows = emptyRows(1, 32, format)
  quantiseRows(new Float32Array(32).fill(value), 32, format, rows, 0)
  for (const q of dequantiseRows(rows, 32, format)) expect(Math.abs(q - value)).toBeLessThanOrEqual(bound)
})

test.each([Number.NaN, Infinity, 3e38])('a weight of %s shows in the sums', (bad) => {
  const format = { bits: 4, blockSize: 32 } as const
  const weights = normal(32, 3)
  weights[7] = bad
  const { error } = quantiseRows(weights, 32, format, emptyRows(1, 32, format), 0)
  expect(Number.isFinite(error)).toBe(false)
})
