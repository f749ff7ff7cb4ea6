/**
 * All that training draws, by counter: what is drawn for one sample of one step depends on nothing that was drawn before, so a
 * job goes on after a crash, or in another process, as if nothing had been.
 */

/** What is drawn for; each has numbers of its own. */
const purposes = { order: 0, caption: 1, choice: 2, noise: 3, posterior: 4, heldOut: 5 } as const

export interface Place {
  readonly purpose: keyof typeof purposes
  readonly seed: number
  readonly stage: number
  /** Of optimisation, from 0; for order and caption, which are drawn once an epoch, the epoch. */
  readonly step: number
  /** A row's place in the step's batch, whatever the micro-batch; for order and caption, the picture. */
  readonly sample: number
}

/**
 * Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The key is the seed's 53 bits; the counter's
 * words are the block within the place, sample, step, and stage · 256 + purpose.
 */
export class RandomNumbers {
  readonly #words = new Uint32Array(4)
  readonly #sample: number
  readonly #step: number
  readonly #purpose: number
  readonly #seedLow: number
  readonly #seedHigh: number
  #block = 0
  #next = 4

  constructor({ purpose, seed, stage, step, sample }: Place) {
    this.#sample = sample
    this.#step = step
    this.#purpose = stage * 256 + purposes[purpose]
    this.#seedLow = seed >>> 0
    this.#seedHigh = Math.floor(seed / 2 ** 32)
  }

  /** A whole number of 32 bits. */
  next(): number {
    if (this.#next === 4) this.#draw()
    return this.#words[this.#next++]!
  }

  /** In 0 … 1, without 1. */
  uniform(): number {
    return this.next() / 2 ** 32
  }

  /** A whole number below `count`, which is small beside 2³²: the bias is at most count / 2³². */
  below(count: number): number {
    return Math.floor(this.uniform() * count)
  }

  /** Standard normal numbers (Box and Muller 1958); begins with a new block. */
  fillNormal(out: Float32Array): void {
    const words = this.#words
    for (let i = 0; i < out.length; i += 4) {
      this.#draw()
      // What lies beyond the end of a typed array is not written.
      const near = radiusOf(words[0]!)
      const one = words[1]! * radiansPerUnit
      out[i] = near * Math.cos(one)
      out[i + 1] = near * Math.sin(one)
      const far = radiusOf(words[2]!)
      const other = words[3]! * radiansPerUnit
      out[i + 2] = far * Math.cos(other)
      out[i + 3] = far * Math.sin(other)
    }
    this.#next = 4
  }

  #draw(): void {
    philox(this.#words, this.#block++, this.#sample, this.#step, this.#purpose, this.#seedLow, this.#seedHigh)
    this.#next = 0
  }
}

const radiansPerUnit = (2 * Math.PI) / 2 ** 32
const radiusOf = (word: number): number => Math.sqrt(-2 * Math.log((word + 1) / 2 ** 32))

/** Ten rounds over a counter of four words with a key of two, into `out`. */
export function philox(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): void {
  let x0 = c0 >>> 0
  let x1 = c1
  let x2 = c2 >>> 0
  let x3 = c3
  let key0 = k0
  let key1 = k1
  for (let round = 0; round < 10; round++) {
    const low0 = Math.imul(0xd2511f53, x0)
    const low1 = Math.imul(0xcd9e8d57, x2)
    const high0 = highWord(0xd2511f53 * x0, low0)
    const high1 = highWord(0xcd9e8d57 * x2, low1)
    x0 = (high1 ^ x1 ^ key0) >>> 0
    x1 = low1
    x2 = (high0 ^ x3 ^ key1) >>> 0
    x3 = low0
    key0 = (key0 + 0x9e3779b9) | 0
    key1 = (key1 + 0xbb67ae85) | 0
  }
  out[0] = x0
  out[1] = x1
  out[2] = x2
  out[3] = x3
}

/**
 * The upper 32 bits of a product of two words. Without its lower word it is a multiple of 2³², and the double that it was rounded
 * to is off by no more than 2¹¹.
 */
const highWord = (product: number, low: number): number => ((product - (low >>> 0)) / 2 ** 32 + 0.5) | 0
