/** Seeded choices: the same seed makes the same picture and the same words on every machine. */
import { createHash } from 'node:crypto'
import { MersenneTwister } from '../../src/diffusion/mersenne-twister.ts'

export class Draws {
  readonly #random: MersenneTwister

  /** @param parts what the choices are for: a seed, the number of a picture, a purpose */
  constructor(...parts: readonly (string | number)[]) {
    this.#random = new MersenneTwister(hashed(parts))
  }

  /** @returns from `low` up to, and without, `high` */
  between(low: number, high: number): number {
    return low + (high - low) * (this.#random.next() / 2 ** 32)
  }

  chance(share: number): boolean {
    return this.between(0, 1) < share
  }

  /** @throws {RangeError} when there is nothing to choose from */
  oneOf<T>(choices: readonly [T, ...T[]] | readonly T[]): T {
    if (choices.length === 0) throw new RangeError('choices: expected at least one, got none')
    return choices[Math.floor(this.between(0, choices.length))]!
  }

  /** @param weighted choices with their weights, which need not add up to one */
  weighted<T>(weighted: readonly (readonly [choice: T, weight: number])[]): T {
    let rest = this.between(
      0,
      weighted.reduce((sum, [, weight]) => sum + weight, 0),
    )
    for (const [choice, weight] of weighted) if ((rest -= weight) < 0) return choice
    return this.oneOf(weighted)[0]
  }

  /** @returns up to `count` of the choices, each at most once, in drawn order */
  some<T>(choices: readonly T[], count: number): readonly T[] {
    const left = [...choices]
    const chosen: T[] = []
    while (chosen.length < count && left.length > 0)
      chosen.push(...left.splice(Math.floor(this.between(0, left.length)), 1))
    return chosen
  }
}

/** @returns a whole number of 32 bits that depends on every part */
export const hashed = (parts: readonly (string | number)[]): number =>
  createHash('sha256').update(parts.join('\u0000')).digest().readUInt32LE(0)
