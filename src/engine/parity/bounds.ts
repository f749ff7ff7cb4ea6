/** How far what is computed may be from its reference, by provider and precision. */
import type { Precision } from '../../models/precision.ts'
import type { Provider } from '../session.ts'
import type { Difference } from './references.ts'

/** What may differ, in the words of the report. */
export interface Bound {
  readonly text: string
  /** What relative differences are by: the reference's largest value, unless a number or each of its values is to be. */
  readonly relativeTo?: number | 'each'
  /** How much of what is allowed a difference takes: more than 1 is too much. */
  readonly strain: (difference: Difference) => number
}

export const equal: Bound = {
  text: 'equal',
  strain: ({ maxAbsolute }) => (maxAbsolute === 0 ? 0 : Infinity),
}
export const absoluteBound = (most: number): Bound => ({
  text: `abs <= ${text(most)}`,
  strain: ({ maxAbsolute }) => maxAbsolute / most,
})
export const relativeBound = (most: number): Bound => ({
  text: `rel <= ${text(most)}`,
  strain: ({ maxRelative }) => maxRelative / most,
})
const bothBounds = (absolute: number, relative: number): Bound => ({
  text: `abs <= ${text(absolute)}, rel <= ${text(relative)}`,
  strain: ({ maxAbsolute, maxRelative }) => Math.max(maxAbsolute / absolute, maxRelative / relative),
})
/** Of every number by itself. */
export const eachBound = (most: number): Bound => ({ ...relativeBound(most), relativeTo: 'each' })
/** For what must not be the reference, and not what is no number either. */
export const differs = (least: number): Bound => ({
  text: `differs: abs >= ${text(least)}`,
  strain: ({ maxAbsolute }) => (Number.isFinite(maxAbsolute) ? least / maxAbsolute : Infinity),
})

/** 0.0001 → 1e-4 */
const text = (value: number): string => value.toExponential()

export interface ServingBounds {
  readonly tensors: Bound
  readonly transformer: Bound
  readonly latents: Bound
  readonly pixels: Bound
}

export const solverBound = relativeBound(1e-5)

const exact: ServingBounds = {
  tensors: bothBounds(1e-4, 2e-5),
  transformer: bothBounds(1e-4, 2e-5),
  latents: relativeBound(5e-5),
  pixels: {
    text: '99.9 % within 1',
    strain: ({ offByMoreThanOne }) => offByMoreThanOne / 1e-3,
  },
}
const float32Bounds: Readonly<Record<Provider, ServingBounds>> = {
  cpu: exact,
  cuda: exact,
  // What passes through the transformer also depends on how well the provider knows sines and cosines.
  // WGSL asks for no more than an absolute error of 2⁻¹¹ in −π … π of sin and cos; SwiftShader's are off by 2e-4.
  webgpu: { ...exact, transformer: bothBounds(1.5e-3, 3e-4), latents: relativeBound(5e-4) },
}
const hundredth = relativeBound(1e-2)
const float16Bounds: ServingBounds = {
  tensors: hundredth,
  transformer: hundredth,
  latents: hundredth,
  pixels: {
    text: 'PSNR >= 35 dB',
    strain: ({ meanSquare }) => 35 / (10 * Math.log10(255 ** 2 / meanSquare)),
  },
}

export const servingBounds = (provider: Provider, precision: Precision): ServingBounds =>
  precision === 'float16' ? float16Bounds : float32Bounds[provider]
