/**
 * Sizes of axes, known or symbolic. A symbolic one is a polynomial over named sizes such as R (rows) or N (tokens), kept in one
 * canonical form, so that two sizes are equal exactly when their texts are: `R*N`, `8*h`, `h*w + 1`.
 */

interface Term {
  readonly coefficient: number
  /** Sorted; a square is the name twice. */
  readonly symbols: readonly string[]
}

export interface SymbolicDimension {
  readonly terms: readonly Term[]
  readonly text: string
}

export type Dimension = number | SymbolicDimension

export const symbol = (name: string): Dimension => polynomial([{ coefficient: 1, symbols: [name] }])

export const dimensionText = (dimension: Dimension): string =>
  typeof dimension === 'number' ? String(dimension) : dimension.text

export const sameDimension = (a: Dimension, b: Dimension): boolean => dimensionText(a) === dimensionText(b)

export const add = (a: Dimension, b: Dimension): Dimension => polynomial([...termsOf(a), ...termsOf(b)])

export const multiply = (a: Dimension, b: Dimension): Dimension =>
  polynomial(
    termsOf(a).flatMap((left) =>
      termsOf(b).map((right) => ({
        coefficient: left.coefficient * right.coefficient,
        symbols: [...left.symbols, ...right.symbols],
      })),
    ),
  )

export const product = (dimensions: readonly Dimension[]): Dimension => dimensions.reduce(multiply, 1)

/** @returns dividend / divisor, or undefined when that is no polynomial with whole coefficients, or the divisor is a sum */
export function divide(dividend: Dimension, divisor: Dimension): Dimension | undefined {
  const [by, ...others] = termsOf(divisor)
  if (by === undefined || others.length > 0) return sameDimension(dividend, divisor) ? 1 : undefined
  const quotient: Term[] = []
  for (const { coefficient, symbols } of termsOf(dividend)) {
    const rest = [...symbols]
    for (const name of by.symbols) {
      const at = rest.indexOf(name)
      if (at < 0) return undefined
      rest.splice(at, 1)
    }
    if (coefficient % by.coefficient !== 0) return undefined
    quotient.push({ coefficient: coefficient / by.coefficient, symbols: rest })
  }
  return polynomial(quotient)
}

/**
 * ⌊dividend / divisor⌋, as strides need it.
 * @returns undefined when a symbolic part is not a multiple of the divisor, so that the floor has no polynomial form
 */
export function floorDivide(dividend: Dimension, divisor: number): Dimension | undefined {
  const terms = termsOf(dividend).map(({ coefficient, symbols }) =>
    symbols.length === 0
      ? { coefficient: Math.floor(coefficient / divisor), symbols }
      : { coefficient: coefficient / divisor, symbols },
  )
  return terms.every(({ coefficient }) => Number.isInteger(coefficient)) ? polynomial(terms) : undefined
}

/** @throws {RangeError} when a symbol has no size in `sizes` */
export function evaluate(dimension: Dimension, sizes: Readonly<Record<string, number>>): number {
  return termsOf(dimension).reduce(
    (sum, { coefficient, symbols }) =>
      sum +
      symbols.reduce((value, name) => {
        const size = sizes[name]
        if (size === undefined)
          throw new RangeError(`${dimensionText(dimension)}: no size is given for ${name}`)
        return value * size
      }, coefficient),
    0,
  )
}

/** The name when the dimension is one symbol alone, as an input's free axis is. */
export function symbolName(dimension: Dimension): string | undefined {
  const [term, ...others] = termsOf(dimension)
  return others.length === 0 && term?.coefficient === 1 && term.symbols.length === 1
    ? term.symbols[0]
    : undefined
}

const termsOf = (dimension: Dimension): readonly Term[] =>
  typeof dimension === 'number' ? [{ coefficient: dimension, symbols: [] }] : dimension.terms

function polynomial(terms: readonly Term[]): Dimension {
  const merged = new Map<string, Term>()
  for (const { coefficient, symbols } of terms) {
    const sorted = symbols.toSorted()
    const key = sorted.join('*')
    merged.set(key, { coefficient: coefficient + (merged.get(key)?.coefficient ?? 0), symbols: sorted })
  }
  const kept = [...merged.entries()]
    .filter(([, { coefficient }]) => coefficient !== 0)
    .sort(([a, left], [b, right]) => right.symbols.length - left.symbols.length || (a < b ? -1 : 1))
  if (kept.every(([, { symbols }]) => symbols.length === 0)) return kept[0]?.[1].coefficient ?? 0
  return {
    terms: kept.map(([, term]) => term),
    text: kept.map(([key, term], i) => termText(key, term, i)).join(''),
  }
}

function termText(key: string, { coefficient, symbols }: Term, position: number): string {
  const sign = position === 0 ? (coefficient < 0 ? '-' : '') : coefficient < 0 ? ' - ' : ' + '
  const size = Math.abs(coefficient)
  if (symbols.length === 0) return `${sign}${size}`
  return size === 1 ? `${sign}${key}` : `${sign}${size}*${key}`
}
