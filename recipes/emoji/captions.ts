/**
 * What is said of a composition. Dense captions name all that is to be seen, which is the paper's third idea (arXiv 2310.00426,
 * section 2.4); plain ones give the names alone, as alternative texts do.
 */
import type { Composition, Layout, Placement } from './composition.ts'
import type { Draws } from './draws.ts'
import { grammarOf, listed, numberWord, plural, withArticle } from './english.ts'
import { curatedStyle } from './recipes.ts'
import type { Appearance } from './render.ts'
import type { Item, Style } from './vocabulary.ts'

type AppearanceOf = (style: Style, id: string) => Appearance

/** "red apple, dog face": the names of what there is. */
export const plainCaption = ({ objects }: Composition): string =>
  [...new Set(objects.map(({ item }) => item.name))].join(', ')

/** Two dense phrasings and two short ones: people who ask for a picture write short ones. */
export function denseCaptions(
  composition: Composition,
  draws: Draws,
  appearanceOf: AppearanceOf,
): readonly string[] {
  return [
    ...Array.from({ length: 2 }, () => dense(composition, draws, appearanceOf)),
    ...Array.from({ length: 2 }, () => shortCaption(composition, draws).text),
  ]
}

/** What a person would write who wants this picture and no other: object, style, place, background; the same every time. */
export function prompt(composition: Composition): string {
  const { layout, style, background } = composition
  const [subject] = subjects(composition)
  const place =
    layout.kind === 'one' && !isPortrait(layout)
      ? `, ${layout.size}, ${wherePhrases[layout.placement][0]}`
      : ''
  return `${subject} in ${style} style on ${withArticle(background.name)} background${place}`
}

export interface ShortCaption {
  readonly text: string
  readonly background: 'said' | 'unsaid'
}

/** As people write who ask for a picture, and leave out what they do not care about. No style means the curated one. */
export function shortCaption(composition: Composition, draws: Draws): ShortCaption {
  const subject = draws.oneOf(subjects(composition))
  const style = `in ${composition.style} style`
  const background = `on ${withArticle(composition.background.name)} background`
  const unstyled = composition.style === curatedStyle ? 1 : 0
  return draws.weighted<ShortCaption>([
    [{ text: `${subject} ${style} ${background}`, background: 'said' }, 3],
    [{ text: `${subject} ${style}`, background: 'unsaid' }, 2],
    [{ text: `${subject} ${background}`, background: 'said' }, 2 * unstyled],
    [{ text: subject, background: 'unsaid' }, unstyled],
  ])
}

function dense(composition: Composition, draws: Draws, appearanceOf: AppearanceOf): string {
  const subject = draws.oneOf(subjects(composition))
  const style = `${composition.style} style`
  const background = draws.oneOf([
    `on ${withArticle(composition.background.name)} background`,
    `against ${withArticle(composition.background.name)} background`,
    `with ${withArticle(composition.background.name)} backdrop`,
  ])
  const details = [
    coloursPhrase(composition, draws, appearanceOf),
    placePhrase(composition, draws),
    tagsPhrase(composition, draws),
  ].filter((phrase) => phrase !== undefined)
  const shuffled = draws.some(details, details.length)
  return draws.oneOf([
    [`${subject} in ${style}`, ...draws.some([...details, background], details.length + 1)].join(', '),
    `${subject} ${background}, ${style}, ${shuffled.join(', ')}`,
    `${withArticle(style)} ${draws.oneOf(['picture', 'drawing', 'illustration'])} of ${subject} ${background}, ${shuffled.join('; ')}`,
    `${style}: ${subject}, ${shuffled.join(', ')}, ${background}`,
  ])
}

/** Ways to say what there is and in which order. */
function subjects({ layout, objects }: Composition): readonly [string, ...string[]] {
  const [first, ...others] = objects.map(({ item }) => singular(item))
  switch (layout.kind) {
    case 'one':
      return [first!]
    case 'several': {
      const { name, subgroup } = objects[0].item
      const things = grammarOf(name, subgroup) === 'counted' ? plural(name) : `${name} emoji`
      const counted = `${numberWord(layout.count)} ${things}`
      if (layout.arrangement === 'column')
        return layout.count === 2
          ? [`${counted} one above the other`]
          : [`${counted} in a column`, `${counted} stacked one above the other`]
      return layout.count === 2
        ? [`${counted} side by side`, `${counted} next to each other`]
        : [`${counted} in a row`, `${counted} side by side`]
    }
    case 'together': {
      const second = others[0]!
      if (others.length > 1) {
        const all = listed([first!, ...others])
        return layout.arrangement === 'row'
          ? [`${all} from left to right`, `${all} in a row`, `a row of ${all}`]
          : [`${all} from top to bottom`, `${all} in a column`, `a column of ${all}`]
      }
      return layout.arrangement === 'row'
        ? [
            `${first} to the left of ${second}`,
            `${second} to the right of ${first}`,
            `${first} on the left and ${second} on the right`,
          ]
        : [
            `${first} above ${second}`,
            `${second} below ${first}`,
            `${first} at the top and ${second} at the bottom`,
          ]
    }
  }
}

function singular({ name, subgroup }: Item): string {
  switch (grammarOf(name, subgroup)) {
    case 'counted':
      return withArticle(name)
    case 'titled':
      return `${withArticle(name)} emoji`
    case 'bare':
      return name
  }
}

function coloursPhrase(
  { style, objects }: Composition,
  draws: Draws,
  appearanceOf: AppearanceOf,
): string | undefined {
  const items = [...new Set(objects.map(({ item }) => item))]
  const coloursOf = (item: Item, most: number) => appearanceOf(style, item.id).colours.slice(0, most)
  if (items.length > 1)
    return items
      .map((item) => `the ${item.name} ${listed(coloursOf(item, 2).map(([name]) => name))}`)
      .join(', ')
  const colours = coloursOf(items[0]!, 4)
  const [main, ...others] = colours.map(([name]) => name)
  if (main === undefined) return undefined
  if (others.length === 0) return draws.oneOf([`coloured ${main}`, `mostly ${main}`])
  return colours[0]![1] >= 0.5
    ? draws.oneOf([`mostly ${main} with ${listed(others)}`, `${main} with some ${listed(others)}`])
    : draws.oneOf([
        `coloured ${listed([main, ...others])}`,
        `in ${listed([main, ...others])}`,
        `in the colours ${listed([main, ...others])}`,
      ])
}

const wherePhrases: Readonly<Record<Placement, readonly [string, ...string[]]>> = {
  'top left': ['in the top left corner', 'in the upper left'],
  top: ['at the top', 'near the upper edge'],
  'top right': ['in the top right corner', 'in the upper right'],
  left: ['on the left', 'on the left side'],
  centre: ['in the centre', 'in the middle'],
  right: ['on the right', 'on the right side'],
  'bottom left': ['in the bottom left corner', 'in the lower left'],
  bottom: ['at the bottom', 'near the lower edge'],
  'bottom right': ['in the bottom right corner', 'in the lower right'],
}

const isPortrait = ({ placement, size }: Layout & { readonly kind: 'one' }) =>
  placement === 'centre' && size === 'large'

function placePhrase({ layout, width, height }: Composition, draws: Draws): string | undefined {
  if (layout.kind !== 'one') return undefined
  const where = draws.oneOf(wherePhrases[layout.placement])
  const size = { small: ['small', 'little'], medium: ['medium-sized'], large: ['large', 'big'] }[layout.size]
  if (isPortrait(layout) && width === height && draws.chance(0.3)) return 'filling the picture'
  return draws.oneOf([`${draws.oneOf(size)} and ${where}`, `${draws.oneOf(size)}, ${where}`])
}

function tagsPhrase({ objects }: Composition, draws: Draws): string | undefined {
  const items = [...new Set(objects.map(({ item }) => item))]
  const tags = new Set(items.flatMap(({ tags: each }) => draws.some(each, items.length > 1 ? 2 : 4)))
  if (tags.size === 0) return undefined
  return draws.oneOf([
    `to do with ${listed([...tags])}`,
    `on the theme of ${listed([...tags])}`,
    `theme: ${listed([...tags])}`,
  ])
}
