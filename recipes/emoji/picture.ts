/** Pixels of a composition. */
import { filled, place, type Picture, type Sprite } from '../../src/evaluation/picture.ts'
import type { Composition } from './composition.ts'

/** @param spriteOf an object's pixels in the composition's style */
export async function paint(
  composition: Composition,
  spriteOf: (style: Composition['style'], id: string) => Promise<Sprite>,
): Promise<Picture> {
  const { width, height, background } = composition
  const picture = { width, height, pixels: filled(width * height, background.rgb) }
  const sprites = new Map<string, Sprite>()
  for (const object of composition.objects) {
    const { id } = object.item
    const sprite = sprites.get(id) ?? (await spriteOf(composition.style, id))
    sprites.set(id, sprite)
    place(picture, sprite, object)
  }
  return picture
}
