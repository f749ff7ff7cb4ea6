import { expect, test } from 'vitest'
import { copyRows, StripReader, type Planes } from '../../src/engine/planes.ts'

const [channels, width] = [3, 2]
const planes = (height: number, valueAt: (index: number) => number): Planes => ({
  data: Float32Array.from({ length: channels * height * width }, (_, i) => valueAt(i)),
  channels,
  height,
  width,
})

/** Value at a row beyond the picture is 0. */
const at = ({ data, height }: Planes, c: number, row: number, column: number): number =>
  row < 0 || row >= height ? 0 : data[(c * height + row) * width + column]!

test.each([1, 2, 3, 4, 7])(
  'strips of %i rows come with the row above and below, also when written over',
  (rows) => {
    for (const height of [1, 2, 3, 7, 8]) {
      const original = planes(height, (i) => 1 + i)
      const picture = { ...original, data: original.data.slice() }
      const reader = new StripReader(
        picture,
        new Float32Array(channels * (rows + 2) * width).fill(Number.NaN),
      )
      for (let top = 0; top < height; top += rows) {
        const count = Math.min(rows, height - top)
        const strip = reader.take(count)
        expect(strip.height).toBe(count + 2)
        for (let c = 0; c < channels; c++)
          for (let row = 0; row < count + 2; row++)
            for (let column = 0; column < width; column++)
              expect(at(strip, c, row, column)).toBe(at(original, c, top - 1 + row, column))
        copyRows(
          planes(count, () => -1),
          0,
          picture,
          top,
          count,
        )
      }
      expect(picture.data.every((value) => value === -1)).toBe(true)
    }
  },
)
