/** Colours in OKLab (Ottosson 2020, bottosson.github.io/posts/oklab), where distances are about as large as they look. */

/** Of sRGB, each a whole number from 0 to 255. */
export type Rgb = readonly [red: number, green: number, blue: number]
/** Lightness 0 … 1, and two axes of about −0.4 … 0.4. */
export type Oklab = readonly [lightness: number, a: number, b: number]

const linear = Float64Array.from({ length: 256 }, (_, value) =>
  value <= 0.04045 * 255 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
)

/** @param red of sRGB, as green and blue whole numbers from 0 to 255 */
export function oklab(red: number, green: number, blue: number): Oklab {
  const [r, g, b] = [linear[red]!, linear[green]!, linear[blue]!]
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ]
}

/** Euclidean distance in OKLab (ΔE_OK): 0.02 is just seen, black and white are 1 apart. */
export const colourDistance = (one: Oklab, other: Oklab): number =>
  Math.hypot(one[0] - other[0], one[1] - other[1], one[2] - other[2])
