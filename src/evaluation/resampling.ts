/** Area averaging: a target pixel is the mean of the stretch of source pixels that it covers, nothing where there are none. */

/** How much of which source pixels, from one on, makes a target pixel. */
export interface Share {
  readonly at: number
  readonly from: number
  readonly weights: Float32Array
}

/**
 * Along one side.
 *
 * @param start where in target pixels the source begins, and `size` how far it reaches there
 * @returns for each target pixel that the source touches
 */
export function shares(
  start: number,
  size: number,
  sourceSize: number,
  targetSize: number,
): readonly Share[] {
  const scale = sourceSize / size
  const found: Share[] = []
  const end = Math.min(Math.ceil(start + size), targetSize)
  for (let at = Math.max(Math.floor(start), 0); at < end; at++) {
    const [low, high] = [Math.max((at - start) * scale, 0), Math.min((at + 1 - start) * scale, sourceSize)]
    const from = Math.floor(low)
    const weights = new Float32Array(Math.max(Math.ceil(high) - from, 0))
    for (let index = 0; index < weights.length; index++)
      weights[index] = Math.max(Math.min(from + index + 1, high) - Math.max(from + index, low), 0) / scale
    if (weights.length > 0) found.push({ at, from, weights })
  }
  return found
}

/**
 * Both ways.
 *
 * @param source pixels of `channels` values, rows of `sourceWidth` pixels
 * @returns as many pixels as there are columns times rows
 */
export function resampled(
  source: Uint8Array | Float32Array,
  sourceWidth: number,
  channels: number,
  columns: readonly Share[],
  rows: readonly Share[],
): Float32Array {
  const width = columns.length * channels
  const first = rows[0]?.from ?? 0
  const last = rows.at(-1)
  const narrow = new Float32Array(Math.max((last ? last.from + last.weights.length : 0) - first, 0) * width)
  for (let y = 0; y * width < narrow.length; y++)
    for (let column = 0; column < columns.length; column++) {
      const { from, weights } = columns[column]!
      for (let channel = 0; channel < channels; channel++) {
        let at = ((first + y) * sourceWidth + from) * channels + channel
        let sum = 0
        for (let index = 0; index < weights.length; index++, at += channels)
          sum += weights[index]! * source[at]!
        narrow[y * width + column * channels + channel] = sum
      }
    }
  const target = new Float32Array(rows.length * width)
  for (let row = 0; row < rows.length; row++) {
    const { from, weights } = rows[row]!
    for (let index = 0; index < weights.length; index++) {
      const weight = weights[index]!
      const line = (from - first + index) * width
      for (let at = 0; at < width; at++) target[row * width + at]! += weight * narrow[line + at]!
    }
  }
  return target
}
