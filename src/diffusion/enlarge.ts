/**
 * Enlarging a finished picture to the size that was asked for, by a Lanczos kernel of three lobes.
 *
 * Ours because libvips, and sharp with it, has that kernel for reductions alone: it enlarges by a cubic (Catmull-Rom).
 */

interface Size {
  readonly width: number
  readonly height: number
}

const lobes = 3
const channels = 3

/** By how much a picture is scaled, both ways alike, so that it covers `to`; what then juts out is cut off around the centre. */
export const coverScale = (from: Size, to: Size): number =>
  Math.max(to.width / from.width, to.height / from.height)

/**
 * Scales a picture up so that it covers `to`, and cuts out the middle. Pixel centres lie at halves, and weights at an edge
 * are those of the pixels that are there, made to sum to one, as Pillow's `LANCZOS` has it; rounded once, at the end.
 *
 * @param pixels (from.height, from.width, 3)
 * @returns (to.height, to.width, 3)
 * @throws {RangeError} where that would be a reduction, or `pixels` is not of that size
 */
export function enlarge(pixels: Uint8Array, from: Size, to: Size): Uint8Array<ArrayBuffer> {
  const scale = coverScale(from, to)
  if (scale < 1) {
    const sizes = `${from.width}x${from.height} to ${to.width}x${to.height}`
    throw new RangeError(`enlarge: expected a size to enlarge to, got ${sizes}`)
  }
  const stride = channels * from.width
  if (pixels.length !== stride * from.height) {
    throw new RangeError(
      `pixels: expected ${from.height} x ${from.width} x ${channels} values, got ${pixels.length}`,
    )
  }
  const columns = taps(from.width, to.width, scale)
  const rows = taps(from.height, to.height, scale)
  const line = new Float32Array(stride) // (from.width, 3): one row of the result, not yet widened
  const out = new Uint8ClampedArray(to.height * to.width * channels) // rounds as it is written to
  let at = 0
  for (let y = 0; y < to.height; y++) {
    line.fill(0)
    for (let tap = 0; tap < rows.count; tap++) {
      const weight = rows.weights[y * rows.count + tap]!
      const start = (rows.first[y]! + tap) * stride
      for (let i = 0; i < stride; i++) line[i] = line[i]! + weight * pixels[start + i]!
    }
    for (let x = 0; x < to.width; x++) {
      let from = columns.first[x]! * channels
      let [red, green, blue] = [0, 0, 0]
      for (let tap = x * columns.count; tap < (x + 1) * columns.count; tap++) {
        const weight = columns.weights[tap]!
        red += weight * line[from]!
        green += weight * line[from + 1]!
        blue += weight * line[from + 2]!
        from += channels
      }
      out[at] = red
      out[at + 1] = green
      out[at + 2] = blue
      at += channels
    }
  }
  return new Uint8Array(out.buffer)
}

/** For each pixel of the result along one axis: the first of the `count` neighbours that it is made of, and their weights. */
function taps(from: number, to: number, scale: number) {
  const count = Math.min(2 * lobes, from)
  const first = new Int32Array(to)
  const weights = new Float32Array(to * count) // (to, count)
  const cutOff = (from * scale - to) / 2
  for (let i = 0; i < to; i++) {
    const centre = (cutOff + i + 0.5) / scale - 0.5
    const start = Math.min(Math.max(0, Math.floor(centre) - lobes + 1), from - count)
    const own = Array.from({ length: count }, (_, tap) => lanczos(start + tap - centre))
    const sum = own.reduce((total, weight) => total + weight, 0)
    first[i] = start
    for (const [tap, weight] of own.entries()) weights[i * count + tap] = weight / sum
  }
  return { count, first, weights }
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x))
const lanczos = (x: number): number => (Math.abs(x) < lobes ? sinc(x) * sinc(x / lobes) : 0)
