/** Pixels of a composition, on raw buffers: one object takes about a millisecond, and no library is called for it. */
import type { Rgb } from './colour.ts'
import type { Composition, PlacedObject } from './composition.ts'
import type { Sprite } from './render.ts'

/** Red, green and blue, a byte each, row by row. */
export interface Picture {
  readonly width: number
  readonly height: number
  readonly pixels: Uint8Array
}

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

export function filled(pixels: number, [red, green, blue]: Rgb): Uint8Array {
  const filling = new Uint8Array(pixels * 3)
  for (let at = 0; at < filling.length; at += 3) {
    filling[at] = red
    filling[at + 1] = green
    filling[at + 2] = blue
  }
  return filling
}

/** Draws a sprite over a picture, its box scaled to a size and place that need not fall on whole pixels. */
export function place(
  picture: Picture,
  sprite: Sprite,
  { centreX, centreY, width, height }: Omit<PlacedObject, 'item'>,
): void {
  const columns = shares(centreX - width / 2, width, sprite.width, picture.width)
  const rows = shares(centreY - height / 2, height, sprite.height, picture.height)
  const narrow = new Float32Array(sprite.height * columns.length * 4)
  for (let y = 0, to = 0; y < sprite.height; y++)
    for (const { from, weights } of columns) {
      sumInto(narrow, to, sprite.pixels, (y * sprite.width + from) * 4, 4, weights)
      to += 4
    }
  const pixel = new Float32Array(4)
  for (const { at: y, from, weights } of rows)
    for (const [index, { at: x }] of columns.entries()) {
      pixel.fill(0)
      sumInto(pixel, 0, narrow, (from * columns.length + index) * 4, columns.length * 4, weights)
      if (pixel[3] === 0) continue
      const to = (y * picture.width + x) * 3
      const through = 1 - pixel[3]! / 255
      for (let channel = 0; channel < 3; channel++)
        picture.pixels[to + channel] = Math.min(
          255,
          Math.round(pixel[channel]! + through * picture.pixels[to + channel]!),
        )
    }
}

/** How much of which source pixels, from one on, makes a target pixel. */
interface Share {
  readonly at: number
  readonly from: number
  readonly weights: Float32Array
}

/** Area averaging along one side: a target pixel is the mean of the stretch of source pixels that it covers. */
function shares(start: number, size: number, sourceSize: number, targetSize: number): readonly Share[] {
  const scale = sourceSize / size
  const found: Share[] = []
  const end = Math.min(Math.ceil(start + size), targetSize)
  for (let at = Math.max(Math.floor(start), 0); at < end; at++) {
    const [low, high] = [Math.max((at - start) * scale, 0), Math.min((at + 1 - start) * scale, sourceSize)]
    const from = Math.floor(low)
    const weights = Float32Array.from(
      { length: Math.max(Math.ceil(high) - from, 0) },
      (_, index) => Math.max(Math.min(from + index + 1, high) - Math.max(from + index, low), 0) / scale,
    )
    if (weights.length > 0) found.push({ at, from, weights })
  }
  return found
}

/** Adds weighted RGBA pixels that lie `stride` apart. */
function sumInto(
  sum: Float32Array,
  to: number,
  source: Uint8Array | Float32Array,
  from: number,
  stride: number,
  weights: Float32Array,
): void {
  let [red, green, blue, alpha] = [0, 0, 0, 0]
  for (let index = 0, at = from; index < weights.length; index++, at += stride) {
    const weight = weights[index]!
    red += weight * source[at]!
    green += weight * source[at + 1]!
    blue += weight * source[at + 2]!
    alpha += weight * source[at + 3]!
  }
  sum[to] = red
  sum[to + 1] = green
  sum[to + 2] = blue
  sum[to + 3] = alpha
}
