/** What pictures are compared with: every item of a style, over the background that a picture has. */
import type { NamedColour } from './colour.ts'
import { see } from './features.ts'
import { filled, place, shrunk, type Picture } from './picture.ts'
import type { Renders, Sprite } from './render.ts'
import type { Style } from './vocabulary.ts'

/** Of the pictures that are described, and the longer side of the thing on them. */
const side = 72
const objectSide = 60

/** Galleries are made when they are first asked for, and kept. */
export class Galleries {
  readonly #renders: Renders
  readonly #galleries = new Map<string, Promise<ReadonlyMap<string, Float32Array>>>()
  readonly #small = new Map<Style, Promise<ReadonlyMap<string, Sprite>>>()

  constructor(renders: Renders) {
    this.#renders = renders
  }

  /** @returns features by items' ids; takes a second or two the first time */
  of(style: Style, background: NamedColour): Promise<ReadonlyMap<string, Float32Array>> {
    const name = `${style} on ${background.name}`
    const made = this.#galleries.get(name) ?? this.#make(style, background)
    this.#galleries.set(name, made)
    return made
  }

  async #make(style: Style, background: NamedColour): Promise<ReadonlyMap<string, Float32Array>> {
    const small = this.#small.get(style) ?? this.#shrink(style)
    this.#small.set(style, small)
    const features = new Map<string, Float32Array>()
    for (const [id, sprite] of await small) features.set(id, see(portrait(sprite, background)).features)
    return features
  }

  async #shrink(style: Style): Promise<ReadonlyMap<string, Sprite>> {
    const sprites = new Map<string, Sprite>()
    for (const { id } of this.#renders.items)
      sprites.set(id, shrunk(await this.#renders.sprite(style, id), objectSide))
    return sprites
  }
}

function portrait(sprite: Sprite, background: NamedColour): Picture {
  const picture = { width: side, height: side, pixels: filled(side * side, background.rgb) }
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
