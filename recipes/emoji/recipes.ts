/** The kinds of data set that the default model's stages are trained on. */
import { bucketsFor, type Bucket } from '../../src/diffusion/buckets.ts'
import { colourDistance } from '../../src/evaluation/oklab.ts'
import { allBackgrounds, type Composition, type Recipe } from './composition.ts'
import { backgroundCalled } from './colour.ts'
import type { Appearance } from './render.ts'
import type { Item, Style } from './vocabulary.ts'

export const kinds = ['single', 'compositions', 'aesthetic', 'held-out'] as const
export type Kind = (typeof kinds)[number]

/** The style that the last stage settles on: flat areas and few details, which small latents keep best. */
export const curatedStyle: Style = 'fluent'

/** Square buckets as often as all others together. */
const shapes = (baseSize: number): Recipe['sizes'] => {
  const buckets = bucketsFor(baseSize)
  return buckets.map((bucket) => [bucket, bucket.width === bucket.height ? buckets.length - 1 : 1])
}

/** White, as most people ask for, as often as ten others. */
const mostlyWhite: Recipe['backgrounds'] = allBackgrounds.map(([each]) => [
  each,
  each.name === 'white' ? 10 : 1,
])

/**
 * @param kind `single`: one large thing in the centre of a square, for the class-conditional stage; `compositions`: all that
 * captions can say, for alignment; `aesthetic`: the curated style, with calm backgrounds; `held-out`: compositions of the kind that
 * none of the others has
 * @param baseSize side of the square bucket
 * @param items what may be on the pictures
 */
export function recipeFor(kind: Kind, baseSize: number, items: readonly Item[]): Recipe {
  const square: Bucket = { width: baseSize, height: baseSize }
  const base = {
    items,
    styles: [
      ['noto', 1],
      ['fluent', 1],
      ['twemoji', 1],
    ],
    sizes: shapes(baseSize),
    backgrounds: allBackgrounds,
    part: 'trained',
  } satisfies Partial<Recipe>
  switch (kind) {
    case 'single':
      return { ...base, sizes: [[square, 1]], layouts: [['portrait', 1]], backgrounds: mostlyWhite }
    case 'compositions':
      return {
        ...base,
        layouts: [
          ['portrait', 4],
          ['one', 3],
          ['several', 1.5],
          ['together', 1.5],
        ],
      }
    case 'aesthetic':
      return {
        ...base,
        styles: [[curatedStyle, 1]],
        layouts: [
          ['portrait', 5],
          ['one', 3],
          ['several', 1],
          ['together', 1],
        ],
        backgrounds: allBackgrounds.map(([each]) => [
          each,
          each.name === 'white' || each.lab[0] > 0.8 ? 3 : 1,
        ]),
      }
    case 'held-out':
      return { ...base, layouts: [['one', 1]], part: 'held-out' }
  }
}

/**
 * How pleasing a picture is taken to be, 1 … 10 as the predictors of this field score: the style, how clearly the things stand
 * out, whether the background is calm, and room around them. It stands in for a predictor that was trained on people's judgements.
 * Pictures of the curated style have 7 at least, and no others do.
 */
export function aestheticScore(
  { style, background, objects, width, height }: Composition,
  appearanceOf: (style: Style, id: string) => Appearance,
): number {
  const covered = objects.reduce((sum, object) => sum + object.width * object.height, 0) / (width * height)
  const contrast = Math.min(
    ...objects.map(({ item }) => {
      const vanishing = appearanceOf(style, item.id).vanishesOn.map((name) => backgroundCalled(name).lab)
      return Math.min(...vanishing.map((lab) => colourDistance(lab, background.lab)), 0.3)
    }),
  )
  const score =
    3 +
    { fluent: 4, noto: 1, twemoji: 0.5 }[style] +
    3 * contrast +
    (background.lab[0] > 0.8 ? 1 : 0) +
    (covered > 0.2 && covered < 0.7 ? 1 : 0)
  return Math.round(score * 100) / 100
}
