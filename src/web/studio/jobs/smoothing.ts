/** The trend of a noisy series. */

/**
 * An exponential moving average that begins without a bias, as Adam's moments do (Kingma and Ba 2015, section 3).
 * @param span of how many values most of the weight is
 */
export function smoothed(values: readonly number[], span = Math.max(5, values.length / 20)): number[] {
  const decay = 1 - 1 / span
  let sum = 0
  let weight = 0
  return values.map((value) => {
    sum = decay * sum + (1 - decay) * value
    weight = decay * weight + (1 - decay)
    return sum / weight
  })
}
