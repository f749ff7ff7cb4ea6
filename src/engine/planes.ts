/** Rows of pictures that lie channel by channel. */

/** (channels, height, width), one picture or some rows of one. */
export interface Planes {
  readonly data: Float32Array
  readonly channels: number
  readonly height: number
  readonly width: number
}

/**
 * Copies rows of every channel. Both may lie in the same memory when no channel of the target begins after that of the source:
 * channels are copied in their order.
 */
export function copyRows(
  source: Planes,
  sourceRow: number,
  target: Planes,
  targetRow: number,
  count: number,
): void {
  const { width, channels } = source
  for (let c = 0; c < channels; c++) {
    const from = (c * source.height + sourceRow) * width
    target.data.set(source.data.subarray(from, from + count * width), (c * target.height + targetRow) * width)
  }
}

function clearRow({ data, channels, height, width }: Planes, row: number): void {
  for (let c = 0; c < channels; c++) {
    const from = (c * height + row) * width
    data.fill(0, from, from + width)
  }
}

/** Takes strips from a picture, top to bottom. A strip may be overwritten in the picture as soon as it was taken. */
export class StripReader {
  readonly #source: Planes
  readonly #buffer: Float32Array
  #last: Planes | undefined
  #next = 0

  /** @param buffer holds (C, r + 2, W) for the highest strip */
  constructor(source: Planes, buffer: Float32Array) {
    this.#source = source
    this.#buffer = buffer
  }

  /** The next `rows` rows, no more than last time, with the one above and the one below: zeros beyond the picture. */
  take(rows: number): Planes {
    const { channels, height, width } = this.#source
    const top = this.#next
    const bottom = top + rows
    const data = this.#buffer.subarray(0, channels * (rows + 2) * width)
    const strip = { data, channels, height: rows + 2, width }
    let known = 1
    if (this.#last === undefined) clearRow(strip, 0)
    else {
      copyRows(this.#last, this.#last.height - 2, strip, 0, 2)
      known = 2
    }
    copyRows(this.#source, top - 1 + known, strip, known, Math.min(bottom + 1, height) - (top - 1 + known))
    if (bottom === height) clearRow(strip, rows + 1)
    this.#last = strip
    this.#next = bottom
    return strip
  }
}
