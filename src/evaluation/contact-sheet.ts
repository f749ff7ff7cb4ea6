/** Many pictures at a glance: below each the item that was asked for and the one that is nearest, between them whether they are the same. */
import sharp from 'sharp'
import type { Judged } from './evaluate.ts'
import type { Rgb } from './oklab.ts'
import { filled, place, shrunk, type Picture } from './picture.ts'
import type { References } from './suite.ts'

/** In pixels. */
const thumbnailSide = 128
const itemSide = 32
const gap = 8
const columns = 16
/** More than these are thinned out evenly. */
const mostPictures = 240

const paper: Rgb = [250, 250, 250]
const marks = { top1: [67, 160, 71], top5: [253, 216, 53], neither: [229, 57, 53] } as const satisfies Record<
  string,
  Rgb
>

/**
 * @param pictureOf a picture's file
 * @returns a WebP; green is the nearest item right, yellow among the five nearest, red not
 */
export async function contactSheet(
  pictures: readonly Judged[],
  references: References | undefined,
  pictureOf: (index: number) => string,
): Promise<Buffer> {
  const shown = spread(pictures, mostPictures)
  const across = Math.min(columns, shown.length)
  const cell = {
    width: thumbnailSide + gap,
    height: thumbnailSide + gap + (references ? itemSide + gap / 2 : 0),
  }
  const width = across * cell.width + gap
  const height = Math.ceil(shown.length / across) * cell.height + gap
  const sheet = { width, height, pixels: filled(width * height, paper) }
  for (const [at, judged] of shown.entries()) {
    const left = (at % across) * cell.width + gap
    const top = Math.floor(at / across) * cell.height + gap
    copy(sheet, await thumbnail(pictureOf(judged.index)), left, top)
    if (references) drawItems(sheet, judged, references, left, top + thumbnailSide + gap / 2)
  }
  return sharp(sheet.pixels, { raw: { width, height, channels: 3 } })
    .webp({ quality: 85 })
    .toBuffer()
}

/** @returns at most so many, the first of them first, at even distances */
export function spread<T>(all: readonly T[], most: number): readonly T[] {
  if (all.length <= most) return all
  return Array.from({ length: most }, (_, at) => all[Math.floor((at * all.length) / most)]!)
}

async function thumbnail(file: string): Promise<Picture> {
  const background = { r: paper[0], g: paper[1], b: paper[2] }
  const { data, info } = await sharp(file)
    .resize(thumbnailSide, thumbnailSide, { fit: 'contain', background })
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  return { width: info.width, height: info.height, pixels: data }
}

function copy(onto: Picture, picture: Picture, left: number, top: number): void {
  for (let y = 0; y < picture.height; y++) {
    const row = picture.pixels.subarray(y * picture.width * 3, (y + 1) * picture.width * 3)
    onto.pixels.set(row, ((top + y) * onto.width + left) * 3)
  }
}

function drawItems(
  sheet: Picture,
  { prompt: { expect }, verdict }: Judged,
  { items }: References,
  left: number,
  top: number,
): void {
  const draw = (id: string | undefined, centreX: number): void => {
    const item = id === undefined ? undefined : items.get(id)
    if (!item) return
    const sprite = shrunk(item.sprite, itemSide)
    const { width, height } = sprite
    place(sheet, sprite, { centreX, centreY: top + itemSide / 2, width, height })
  }
  if (expect.item === undefined) return
  draw(expect.item, left + itemSide / 2)
  draw(verdict.neighbours[0]?.id, left + thumbnailSide - itemSide / 2)
  const mark = verdict.right.get('top1') ? 'top1' : verdict.right.get('top5') ? 'top5' : 'neither'
  const [width, height] = [thumbnailSide - 2 * (itemSide + gap), itemSide / 4]
  const bar = { width, height, pixels: filled(width * height, marks[mark]) }
  copy(sheet, bar, left + itemSide + gap, top + (itemSide - height) / 2)
}
