/** What pictures are compared with: every item of a style, over the background that a picture has. */
import { galleryOn, referenceSide, type Gallery } from '../../src/evaluation/gallery.ts'
import { shrunk, type Sprite } from '../../src/evaluation/picture.ts'
import type { NamedColour } from './colour.ts'
import type { Renders } from './render.ts'
import type { Style } from './vocabulary.ts'

/** Galleries are made when they are first asked for, and kept. */
export class Galleries {
  readonly #renders: Renders
  readonly #galleries = new Map<string, Promise<Gallery>>()
  readonly #small = new Map<Style, Promise<ReadonlyMap<string, Sprite>>>()

  constructor(renders: Renders) {
    this.#renders = renders
  }

  /** @returns features by items' ids; takes a second or two the first time */
  of(style: Style, background: NamedColour): Promise<Gallery> {
    const name = `${style} on ${background.name}`
    const made = this.#galleries.get(name) ?? this.#make(style, background)
    this.#galleries.set(name, made)
    return made
  }

  async #make(style: Style, background: NamedColour): Promise<Gallery> {
    const small = this.#small.get(style) ?? smallSprites(this.#renders, style)
    this.#small.set(style, small)
    return galleryOn(await small, background.rgb)
  }
}

/** @returns every item of the style, by its id, as small as references are kept */
export async function smallSprites(renders: Renders, style: Style): Promise<ReadonlyMap<string, Sprite>> {
  const sprites = new Map<string, Sprite>()
  for (const { id } of renders.items) sprites.set(id, shrunk(await renders.sprite(style, id), referenceSide))
  return sprites
}
