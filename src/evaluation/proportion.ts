/** Shares of pictures, with how far chance may have carried them. */

export interface Proportion {
  readonly hits: number
  readonly of: number
  readonly share: number
  /** Ends of the interval of 95 % confidence. */
  readonly low: number
  readonly high: number
}

/** Of the standard normal distribution, 97.5 % lie below. */
const z = 1.959963984540054

/**
 * Wilson's score interval (1927, JASA 22), good for shares near 0 and 1 as well. It takes pictures to be independent, which two
 * seeds of one prompt are not quite.
 * @param of at least 1
 */
export function proportion(hits: number, of: number): Proportion {
  const share = hits / of
  const middle = (share + z ** 2 / (2 * of)) / (1 + z ** 2 / of)
  const reach = (z / (1 + z ** 2 / of)) * Math.sqrt((share * (1 - share)) / of + z ** 2 / (4 * of ** 2))
  return { hits, of, share, low: Math.max(middle - reach, 0), high: Math.min(middle + reach, 1) }
}
