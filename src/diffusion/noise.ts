/** Standard normal noise, value for value what `torch.randn` draws from a CPU generator with the same seed. */
import { MersenneTwister } from './mersenne-twister.ts'

/** Which part of a draw is wanted. Values depend on the whole draw's size only below 16 and in its last 16 values. */
export interface Slice {
  /** How many values of the draw come before the wanted ones; 0 unless given. */
  readonly offset?: number
  /** How many values the whole draw has; up to the end of the wanted ones unless given. */
  readonly total?: number
}

/** Draws of this size and more are made in blocks, smaller ones value by value (torch's normal_fill). */
const blockSize = 16
const half = blockSize / 2
const twoPi = Math.fround(2 * Math.PI)

/**
 * A torch CPU generator: `new TorchGenerator(seed)` is `torch.Generator('cpu').manual_seed(seed)`. Draws follow each
 * other as they do there; torch seeds MT19937 with the low 32 bits of its 64-bit seed.
 */
export class TorchGenerator {
  readonly #random: MersenneTwister
  readonly #block = new Float32Array(blockSize)
  /** The second value of a pair, kept from one small draw to the next. */
  #spare: number | undefined

  /** @param seed a whole number from 0 to 2^53 − 1 */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`seed: expected a whole number from 0 to 2^53 − 1, got ${seed}`)
    }
    this.#random = new MersenneTwister(seed)
  }

  /**
   * Makes one draw of `total` values, as `torch.randn` of a tensor with that many, and writes those from `offset` on
   * into `out`. Allocates nothing.
   */
  fillNormal(out: Float32Array, { offset = 0, total = offset + out.length }: Slice = {}): void {
    if (offset < 0 || offset + out.length > total) {
      throw new RangeError(
        `noise: values ${offset} to ${offset + out.length} are not inside a draw of ${total}`,
      )
    }
    if (total < blockSize) {
      for (let i = 0; i < total; i++) {
        const value = this.#normalFromDoubles()
        if (i >= offset && i < offset + out.length) out[i - offset] = value
      }
      return
    }
    const tail = total % blockSize
    for (let start = 0; start < total - tail; start += blockSize) this.#writeBlock(out, start - offset)
    if (tail > 0) {
      // The values of an unfinished block are drawn and thrown away: the last 16 values are drawn anew.
      this.#random.skip(tail)
      this.#writeBlock(out, total - blockSize - offset)
    }
  }

  /** One block of 16 at `position` of `out`, as far as it lies inside. */
  #writeBlock(out: Float32Array, position: number): void {
    if (position <= -blockSize || position >= out.length) {
      this.#random.skip(blockSize)
      return
    }
    const block = this.#block
    for (let i = 0; i < blockSize; i++) block[i] = (this.#random.next() & 0xffffff) / 0x1000000
    // Box and Muller 1958 in float32: u from the first half of the block, the angle from the second.
    for (let i = 0; i < half; i++) {
      const radius = Math.sqrt(-2 * Math.fround(Math.log(1 - block[i]!)))
      const angle = Math.fround(twoPi * block[i + half]!)
      block[i] = radius * Math.cos(angle)
      block[i + half] = radius * Math.sin(angle)
    }
    const from = Math.max(0, -position)
    const to = Math.min(blockSize, out.length - position)
    for (let i = from; i < to; i++) out[position + i] = block[i]!
  }

  /** Box and Muller in double, the sine's value kept for the next call (at::normal_distribution<double>). */
  #normalFromDoubles(): number {
    const spare = this.#spare
    if (spare !== undefined) {
      this.#spare = undefined
      return spare
    }
    const angle = 2 * Math.PI * this.#uniformDouble()
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniformDouble()))
    this.#spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }

  /** 53 random bits: the low 21 of one number above the 32 of the next. */
  #uniformDouble(): number {
    const high = this.#random.next() & 0x1fffff
    return (high * 2 ** 32 + this.#random.next()) / 2 ** 53
  }
}

/**
 * The first draw of a fresh generator. Slice i of an (n, 4, h, w) draw is `randn(seed, 4·h·w, { offset: i·4·h·w })`:
 * latent sides are even, so a picture is a whole number of blocks, and it does not matter how many follow.
 */
export function randn(seed: number, length: number, slice: Slice = {}): Float32Array<ArrayBuffer> {
  const out = new Float32Array(length)
  new TorchGenerator(seed).fillNormal(out, slice)
  return out
}
