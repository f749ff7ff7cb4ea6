/** What pictures are compared with: every item, pasted on the background that a picture has. */
import { see } from './features.ts'
import type { Rgb } from './oklab.ts'
import { filled, place, type Picture, type Sprite } from './picture.ts'

/** Of the pictures that are described, and the longer side of the item on them. */
const side = 72
export const referenceSide = 60

/** Features by items' ids. */
export type Gallery = ReadonlyMap<string, Float32Array>

/** Takes about a millisecond an item. */
export function galleryOn(sprites: ReadonlyMap<string, Sprite>, background: Rgb): Gallery {
  const features = new Map<string, Float32Array>()
  for (const [id, sprite] of sprites) features.set(id, see(portrait(sprite, background)).features)
  return features
}

function portrait(sprite: Sprite, background: Rgb): Picture {
  const picture = { width: side, height: side, pixels: filled(side * side, background) }
  // On whole pixels, so that nothing is averaged twice.
  const middle = (extent: number) => Math.floor((side - extent) / 2) + extent / 2
  place(picture, sprite, {
    centreX: middle(sprite.width),
    centreY: middle(sprite.height),
    width: sprite.width,
    height: sprite.height,
  })
  return picture
}
