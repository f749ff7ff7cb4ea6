/** Pictures and cut-out things as raw pixels: one thing is placed in about a millisecond, and no library is called for it. */
import type { Rgb } from './oklab.ts'
import { resampled, shares } from './resampling.ts'

/** Red, green and blue, a byte each, row by row. */
export interface Picture {
  readonly width: number
  readonly height: number
  readonly pixels: Uint8Array
}

/** A thing's box of pixels: red, green and blue multiplied by alpha, and alpha, each a byte, row by row. */
export interface Sprite {
  readonly width: number
  readonly height: number
  readonly pixels: Uint8Array
}

/** Centre and size of a thing's box, in pixels. */
export interface Place {
  readonly centreX: number
  readonly centreY: number
  readonly width: number
  readonly height: number
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
export function place(picture: Picture, sprite: Sprite, { centreX, centreY, width, height }: Place): void {
  const columns = shares(centreX - width / 2, width, sprite.width, picture.width)
  const rows = shares(centreY - height / 2, height, sprite.height, picture.height)
  const scaled = resampled(sprite.pixels, sprite.width, 4, columns, rows)
  let from = 0
  for (const { at: y } of rows)
    for (const { at: x } of columns) {
      const to = (y * picture.width + x) * 3
      const through = 1 - scaled[from + 3]! / 255
      for (let channel = 0; channel < 3; channel++)
        picture.pixels[to + channel] = Math.min(
          255,
          Math.round(scaled[from + channel]! + through * picture.pixels[to + channel]!),
        )
      from += 4
    }
}

/** @returns the sprite with so many pixels along its longer side, which is enough for what is drawn smaller */
export function shrunk(sprite: Sprite, longerSide: number): Sprite {
  const scale = longerSide / Math.max(sprite.width, sprite.height)
  const width = Math.max(1, Math.round(sprite.width * scale))
  const height = Math.max(1, Math.round(sprite.height * scale))
  const columns = shares(0, width, sprite.width, width)
  const rows = shares(0, height, sprite.height, height)
  const pixels = new Uint8Array(resampled(sprite.pixels, sprite.width, 4, columns, rows).map(Math.round))
  return { width, height, pixels }
}
