/** The 32-bit Mersenne Twister, which torch's CPU generator draws from. */

const size = 624
const middle = 397

/** MT19937 of Matsumoto and Nishimura 1998 (ACM TOMACS 8(1)), initialised as `init_genrand` of their 2002 version. */
export class MersenneTwister {
  readonly #state = new Uint32Array(size)
  #next = size

  /** @param seed its low 32 bits count */
  constructor(seed: number) {
    this.#state[0] = seed
    for (let i = 1; i < size; i++) {
      const previous = this.#state[i - 1]!
      this.#state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i
    }
  }

  /** @returns a whole number of 32 bits */
  next(): number {
    if (this.#next === size) this.#twist()
    let y = this.#state[this.#next++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  /** Leaves out the next `count` numbers. */
  skip(count: number): void {
    for (let rest = count; rest > 0;) {
      if (this.#next === size) this.#twist()
      const step = Math.min(rest, size - this.#next)
      this.#next += step
      rest -= step
    }
  }

  #twist(): void {
    const state = this.#state
    for (let i = 0; i < size; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % size]! & 0x7fffffff)
      state[i] = state[(i + middle) % size]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    this.#next = 0
  }
}
