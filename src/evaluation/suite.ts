/** What a model is asked in an evaluation, and what the pictures are held against. */
import type { Gaussian } from './frechet.ts'
import type { Rgb } from './oklab.ts'
import type { Sprite } from './picture.ts'

export interface Suite {
  readonly name: string
  readonly description: string
  readonly prompts: readonly [SuitePrompt, ...SuitePrompt[]]
  readonly references: References | undefined
}

export interface SuitePrompt {
  readonly prompt: string
  /** Prompts of a group are counted together, such as `named` and `held-out`. */
  readonly group: string
  /** A picture each. */
  readonly seeds: readonly number[]
  /** In pixels; undefined is the model's own square. */
  readonly size: { readonly width: number; readonly height: number } | undefined
  readonly expect: Expectation
}

/** What the picture must show; nothing is counted of what is left out. */
export interface Expectation {
  /** An id of the references' items. */
  readonly item?: string
  readonly background?: NamedRgb
  readonly placement?: NamedPoint
}

export interface NamedRgb {
  readonly name: string
  readonly rgb: Rgb
}

/** Where the middle of the item's box belongs, in shares of the picture's width and height. */
export interface NamedPoint {
  readonly name: string
  readonly x: number
  readonly y: number
}

export interface References {
  /** All that a picture could be taken for, by id. */
  readonly items: ReadonlyMap<string, ReferenceItem>
  readonly renders: RenderStatistics | undefined
}

export interface ReferenceItem {
  readonly name: string
  readonly sprite: Sprite
}

/** Of pictures as a perfect model would make them, none of which was ever trained on. */
export interface RenderStatistics {
  readonly gaussian: Gaussian
  /** Squared Fréchet distance of other such pictures, as many as the suite asks for: what a perfect model would get. */
  readonly perfect: { readonly count: number; readonly distance: number }
}

/** The suite is missing or is not what one must be. */
export class SuiteError extends Error {
  override readonly name = 'SuiteError'
}
