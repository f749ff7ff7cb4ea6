/** Samples → what is told of them. */

export interface Statistics {
  readonly mean: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

/** @throws {RangeError} when there are no values */
export function statisticsOf(values: readonly number[]): Statistics {
  return {
    mean: mean(values),
    p50: quantile(values, 0.5),
    p95: quantile(values, 0.95),
    p99: quantile(values, 0.99),
  }
}

/** @throws {RangeError} when there are no values */
export function mean(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('a mean needs at least one value')
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/**
 * With linear interpolation between the two nearest of the sorted values, as NumPy's default (Hyndman and Fan 1996, definition 7).
 * @throws {RangeError} when there are no values
 */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const position = (sorted.length - 1) * share
  const [below, above] = [sorted[Math.floor(position)], sorted[Math.ceil(position)]]
  if (below === undefined || above === undefined) throw new RangeError('a quantile needs at least one value')
  return below + (above - below) * (position - Math.floor(position))
}

/** The median of each group of positions, at each of its positions: one late call does not make a request slow alone. */
export function medianByGroup(values: readonly number[], groupOf: (position: number) => string): number[] {
  const groups = Map.groupBy(values.keys(), groupOf)
  const medians = new Map(
    Array.from(groups, ([group, positions]) => [
      group,
      quantile(
        positions.map((position) => values[position]!),
        0.5,
      ),
    ]),
  )
  return Array.from(values.keys(), (position) => medians.get(groupOf(position))!)
}
