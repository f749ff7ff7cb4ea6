/** Where things lie on a picture: drawn from a seed, without pixels. */
import type { Bucket } from '../../src/diffusion/buckets.ts'
import type { Place } from '../../src/evaluation/picture.ts'
import { backgrounds, type NamedColour } from './colour.ts'
import { hashed, type Draws } from './draws.ts'
import type { Appearance } from './render.ts'
import type { Item, Style } from './vocabulary.ts'

export const placements = [
  'top left',
  'top',
  'top right',
  'left',
  'centre',
  'right',
  'bottom left',
  'bottom',
  'bottom right',
] as const
export type Placement = (typeof placements)[number]
export type Size = 'small' | 'medium' | 'large'
/** Beside each other, or one above the other. */
export type Arrangement = 'row' | 'column'

export type Layout =
  | { readonly kind: 'one'; readonly placement: Placement; readonly size: Size }
  /** The same thing two to four times. */
  | { readonly kind: 'several'; readonly count: number; readonly arrangement: Arrangement }
  /** Two or three things, from left to right or from top to bottom. */
  | { readonly kind: 'together'; readonly arrangement: Arrangement }

export interface PlacedObject extends Place {
  readonly item: Item
}

export interface Composition extends Bucket {
  readonly style: Style
  readonly background: NamedColour
  readonly layout: Layout
  readonly objects: readonly [PlacedObject, ...PlacedObject[]]
}

/** What compositions are drawn from. */
export interface Recipe {
  readonly items: readonly Item[]
  readonly styles: readonly (readonly [style: Style, weight: number])[]
  readonly sizes: readonly (readonly [bucket: Bucket, weight: number])[]
  readonly layouts: readonly (readonly [kind: 'portrait' | Layout['kind'], weight: number])[]
  readonly backgrounds: readonly (readonly [background: NamedColour, weight: number])[]
  /** Which side of the fixed border between what is trained on and what is not. */
  readonly part: 'trained' | 'held-out'
}

/** Of (object, background, placement), how many are never trained on. */
export const heldOutShare = 0.05

/**
 * Decided by the names alone, so that no seed, style or size changes it. Layouts of several things count as placements;
 * of different things, one held-out combination is enough.
 */
export const isHeldOut = ({
  objects,
  background,
  layout,
}: Omit<Composition, 'style' | keyof Bucket>): boolean =>
  objects.some(
    ({ item }) =>
      hashed(['held out', item.id, background.name, placementName(layout, objects.length)]) <
      heldOutShare * 2 ** 32,
  )

function placementName(layout: Layout, count: number): string {
  return layout.kind === 'one' ? layout.placement : `${count} in a ${layout.arrangement}`
}

/**
 * A portrait is one large thing in the centre. Draws again, whole, what lies on the wrong side of the border or has a thing
 * that would vanish into its background; shares of layouts, styles and backgrounds therefore hold only nearly.
 *
 * @param appearanceOf of an item in a style: its proportions, and what it vanishes on
 * @throws {RangeError} when a thousand draws give none, as with one item and one background
 */
export function drawComposition(
  draws: Draws,
  recipe: Recipe,
  appearanceOf: (style: Style, id: string) => Appearance,
): Composition {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const drawn = drawAny(draws, recipe, appearanceOf)
    if (isHeldOut(drawn) === (recipe.part === 'held-out') && isSeen(drawn, appearanceOf)) return drawn
  }
  throw new RangeError(
    `recipe: expected compositions that are ${recipe.part}, and a thousand draws gave none`,
  )
}

function isSeen(
  { style, background, objects }: Composition,
  appearanceOf: (style: Style, id: string) => Appearance,
): boolean {
  return objects.every(({ item }) => !appearanceOf(style, item.id).vanishesOn.includes(background.name))
}

function drawAny(
  draws: Draws,
  recipe: Recipe,
  appearanceOf: (style: Style, id: string) => Appearance,
): Composition {
  const style = draws.weighted(recipe.styles)
  const background = draws.weighted(recipe.backgrounds)
  const bucket = draws.weighted(recipe.sizes)
  const kind = draws.weighted(recipe.layouts)
  const item = draws.oneOf(recipe.items)
  const placed = (each: Item, cell: Cell): PlacedObject =>
    placedIn(cell, each, appearanceOf(style, each.id), bucket)
  switch (kind) {
    case 'portrait': {
      const layout = { kind: 'one', placement: 'centre', size: 'large' } as const
      const side = Math.min(bucket.width, bucket.height) * draws.between(0.78, 0.9)
      const cell = { x: bucket.width / 2, y: bucket.height / 2, side }
      return { ...bucket, style, background, layout, objects: [placed(item, cell)] }
    }
    case 'one': {
      const layout = drawPlacement(draws, bucket)
      return { ...bucket, style, background, layout, objects: [placed(item, cellOf(layout, draws, bucket))] }
    }
    case 'several': {
      const arrangement = drawArrangement(draws, bucket)
      const count = drawCount(draws, bucket, 4)
      const [first, ...others] = cellsOf(arrangement, count, draws, bucket)
      return {
        ...bucket,
        style,
        background,
        layout: { kind, count, arrangement },
        objects: [placed(item, first), ...others.map((cell) => placed(item, cell))],
      }
    }
    case 'together': {
      const arrangement = drawArrangement(draws, bucket)
      const others = draws.some(
        recipe.items.filter((other) => other !== item),
        drawCount(draws, bucket, 3) - 1,
      )
      const [first, ...cells] = cellsOf(arrangement, others.length + 1, draws, bucket)
      return {
        ...bucket,
        style,
        background,
        layout: { kind, arrangement },
        objects: [placed(item, first), ...others.map((other, index) => placed(other, cells[index]!))],
      }
    }
  }
}

/** Middle, and the side of the square that a thing's box may fill. */
interface Cell {
  readonly x: number
  readonly y: number
  readonly side: number
}

/** From this ratio of its sides on, a picture has places along its longer side only. */
const longRatio = 1.5
/** Of the shorter side: least and most; a large thing in a nearly square picture has no place but the centre. */
const sides: Readonly<Record<Size, readonly [nearlySquare: number, long: number]>> = {
  small: [0.32, 0.56],
  medium: [0.5, 0.72],
  large: [0.8, 0.9],
}
/** How far from the middle the middle of a thing at a side lies, in shares of the picture. */
const aside: Readonly<Record<Size, number>> = { small: 0.3, medium: 0.23, large: 0.27 }
const margin = 0.02

/** @returns where a thing there has its middle, in shares of the sides, but for a little chance */
export function middleOf({ placement, size }: Layout & { readonly kind: 'one' }): {
  readonly x: number
  readonly y: number
} {
  const towards = (before: string, after: string) =>
    0.5 + (placement.includes(after) ? aside[size] : placement.includes(before) ? -aside[size] : 0)
  return { x: towards('left', 'right'), y: towards('top', 'bottom') }
}

/** @returns the placement whose things have their middle there */
export function placementAt(x: number, y: number, { width, height }: Bucket): Placement {
  const third = (share: number) => (share < 0.4 ? 0 : share > 0.6 ? 2 : 1)
  return placements[third(y / height) * 3 + third(x / width)]!
}

function drawPlacement(draws: Draws, { width, height }: Bucket): Layout & { readonly kind: 'one' } {
  const long = Math.max(width / height, height / width) >= longRatio
  const size = draws.weighted<Size>([
    ['small', 1],
    ['medium', 1.4],
    ['large', long ? 1 : 0.4],
  ])
  const open = placements.filter((placement) => {
    if (!long) return size !== 'large' || placement === 'centre'
    return (
      placement === 'centre' || (width > height ? ['left', 'right'] : ['top', 'bottom']).includes(placement)
    )
  })
  return { kind: 'one', placement: draws.oneOf(open), size }
}

function cellOf(layout: Layout & { readonly kind: 'one' }, draws: Draws, { width, height }: Bucket): Cell {
  const short = Math.min(width, height)
  const long = Math.max(width, height) / short >= longRatio
  const side = short * sides[layout.size][long ? 1 : 0] * draws.between(0.94, 1.06)
  const { x, y } = middleOf(layout)
  const jitter = () => draws.between(-0.02, 0.02)
  return {
    x: width * (x + jitter()),
    y: height * (y + jitter()),
    side,
  }
}

function drawArrangement(draws: Draws, { width, height }: Bucket): Arrangement {
  if (width >= longRatio * height) return 'row'
  if (height >= longRatio * width) return 'column'
  return draws.weighted<Arrangement>([
    ['row', 2],
    ['column', 1],
  ])
}

/** More where there is more room. */
function drawCount(draws: Draws, { width, height }: Bucket, most: number): number {
  const room = Math.max(width / height, height / width)
  return draws.weighted(
    [2, 3, 4]
      .filter((count) => count <= most)
      .map((count) => [count, count === 2 ? 1.5 : count <= room + 1.5 ? 1 : 0.2]),
  )
}

function cellsOf(
  arrangement: Arrangement,
  count: number,
  draws: Draws,
  { width, height }: Bucket,
): readonly [Cell, ...Cell[]] {
  const [along, across] = arrangement === 'row' ? [width, height] : [height, width]
  const step = Math.min(along / count, across * 1.15)
  const side = Math.min(step * 0.9, across * 0.88) * draws.between(0.85, 1)
  const start = (along - step * (count - 1)) / 2
  const cell = (index: number): Cell => {
    const position = start + step * index
    return arrangement === 'row' ? { x: position, y: height / 2, side } : { x: width / 2, y: position, side }
  }
  return [cell(0), ...Array.from({ length: count - 1 }, (_, index) => cell(index + 1))]
}

/** Fills the cell with the longer side of the thing's box, and moves it inside the picture. */
function placedIn(cell: Cell, item: Item, box: Appearance, { width, height }: Bucket): PlacedObject {
  const scale = cell.side / Math.max(box.width, box.height)
  const [boxWidth, boxHeight] = [box.width * scale, box.height * scale]
  const inside = (at: number, size: number, extent: number) =>
    Math.min(Math.max(at, size / 2 + margin * extent), extent - size / 2 - margin * extent)
  return {
    item,
    centreX: inside(cell.x, boxWidth, width),
    centreY: inside(cell.y, boxHeight, height),
    width: boxWidth,
    height: boxHeight,
  }
}

/** Every background as often as another. */
export const allBackgrounds: Recipe['backgrounds'] = backgrounds.map((each) => [each, 1])
