/**
 * The pictures of the three emoji sets, rendered once by sharp and kept outside git: one file of compressed pixels a style,
 * and an index with what captions and compositions need to know of each.
 */
import { mkdir, open, readFile, rename, writeFile, type FileHandle } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import sharp from 'sharp'
import type { Sprite } from '../../src/evaluation/picture.ts'
import { hashed } from './draws.ts'
import { measure, type Measured } from './measure.ts'
import { styles, vocabulary, type Item, type Style } from './vocabulary.ts'

/** Side in pixels at which a whole icon is rendered; what is kept of it is the box that is not transparent. */
export const renderSide = 256

export interface Appearance extends Measured {
  readonly id: string
  /** In pixels of the render. */
  readonly width: number
  readonly height: number
}

interface IndexEntry extends Appearance {
  readonly offset: number
  readonly bytes: number
}

const packages: Readonly<Record<Style, string>> = {
  noto: '@iconify-json/noto',
  fluent: '@iconify-json/fluent-emoji-flat',
  twemoji: '@iconify-json/twemoji',
}

export const defaultCache = fileURLToPath(new URL('../../data/recipes/emoji', import.meta.url))

/** Rendered icons of all styles: what they look like is at hand, their pixels are read when they are asked for. */
export class Renders {
  readonly items: readonly Item[]
  readonly #styles: ReadonlyMap<
    Style,
    { readonly pixels: FileHandle; readonly entries: ReadonlyMap<string, IndexEntry> }
  >

  private constructor(
    items: readonly Item[],
    opened: ReadonlyMap<
      Style,
      { readonly pixels: FileHandle; readonly entries: ReadonlyMap<string, IndexEntry> }
    >,
  ) {
    this.items = items
    this.#styles = opened
  }

  /**
   * @param folder what is not there already is rendered into it, which takes about a minute for all items
   * @param items those wanted
   */
  static async open(folder = defaultCache, items = vocabulary): Promise<Renders> {
    const opened = new Map()
    for (const style of styles) {
      const path = join(folder, await cacheName(style, items))
      await readFile(`${path}.json`).catch(async () => renderAll(style, items, path))
      const index = JSON.parse(await readFile(`${path}.json`, 'utf8')) as readonly IndexEntry[]
      opened.set(style, {
        pixels: await open(`${path}.pixels`),
        entries: new Map(index.map((entry) => [entry.id, entry])),
      })
    }
    return new Renders(items, opened)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { pixels } of this.#styles.values()) await pixels.close()
  }

  /** @throws {RangeError} for an item that was not wanted */
  appearance(style: Style, id: string): Appearance {
    return this.#entry(style, id).entry
  }

  /** @throws {RangeError} for an item that was not wanted */
  async sprite(style: Style, id: string): Promise<Sprite> {
    const { pixels, entry } = this.#entry(style, id)
    const { buffer } = await pixels.read(Buffer.allocUnsafe(entry.bytes), 0, entry.bytes, entry.offset)
    return { width: entry.width, height: entry.height, pixels: zstdDecompressSync(buffer) }
  }

  #entry(style: Style, id: string) {
    const { pixels, entries } = this.#styles.get(style)!
    const entry = entries.get(id)
    if (!entry) throw new RangeError(`item: expected one that is rendered, got ${id}`)
    return { pixels, entry }
  }
}

/** @returns a name that changes with all that decides what is kept: the set's version, the items, and the code that renders and measures */
async function cacheName(style: Style, items: readonly Item[]): Promise<string> {
  const { version } = JSON.parse(
    await readFile(createRequire(import.meta.url).resolve(`${packages[style]}/package.json`), 'utf8'),
  ) as { version: string }
  const code = ['render.ts', 'measure.ts', 'colour.ts', '../../src/evaluation/oklab.ts'].map(async (file) =>
    readFile(new URL(file, import.meta.url), 'utf8'),
  )
  const content = hashed([
    ...items.map(({ id, icons }) => `${id} ${icons[style]}`),
    ...(await Promise.all(code)),
  ])
  return `${style}-${version}-${content.toString(16)}`
}

async function renderAll(style: Style, items: readonly Item[], path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const set = await readIcons(style)
  const unfinished = `${path}.${process.pid}`
  const index: IndexEntry[] = []
  await using pixels = await open(`${unfinished}.pixels`, 'w')
  let offset = 0
  for (const batch of inBatches(items, 16)) {
    for (const [item, sprite] of await Promise.all(
      batch.map(async (each) => [each, await rendered(set, each.icons[style])] as const),
    )) {
      const bytes = zstdCompressSync(sprite.pixels)
      await pixels.write(bytes)
      index.push({
        id: item.id,
        width: sprite.width,
        height: sprite.height,
        ...measure(sprite),
        offset,
        bytes: bytes.length,
      })
      offset += bytes.length
    }
  }
  await writeFile(`${unfinished}.json`, JSON.stringify(index))
  // The index last: where it is, the pixels are.
  await rename(`${unfinished}.pixels`, `${path}.pixels`)
  await rename(`${unfinished}.json`, `${path}.json`)
}

const inBatches = (items: readonly Item[], size: number): readonly (readonly Item[])[] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  )

/** Of the Iconify JSON format: SVG markup without its root, whose box may be an icon's own or the set's. */
interface IconSet extends IconBox {
  readonly icons: Readonly<Record<string, IconBox & { readonly body: string }>>
}
interface IconBox {
  readonly left?: number
  readonly top?: number
  readonly width?: number
  readonly height?: number
}

async function readIcons(style: Style): Promise<IconSet> {
  const path = createRequire(import.meta.url).resolve(`${packages[style]}/icons.json`)
  return JSON.parse(await readFile(path, 'utf8')) as IconSet
}

async function rendered(set: IconSet, icon: string): Promise<Sprite> {
  const found = set.icons[icon]
  if (!found) throw new Error(`icons: expected ${icon}, which its set does not have`)
  const { left = 0, top = 0, width = 16, height = 16, body } = { ...set, ...found }
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${renderSide}" height="${renderSide}" viewBox="${left} ${top} ${width} ${height}">${body}</svg>`
  const { data, info } = await sharp(Buffer.from(svg))
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  return trimmed(data, info.width, info.height)
}

/** Pixels of less alpha than this are taken to be empty. */
const faint = 8

function trimmed(rgba: Uint8Array, width: number, height: number): Sprite {
  let [left, top, right, bottom] = [width, height, 0, 0]
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (rgba[(y * width + x) * 4 + 3]! >= faint) {
        left = Math.min(left, x)
        right = Math.max(right, x + 1)
        top = Math.min(top, y)
        bottom = Math.max(bottom, y + 1)
      }
  const sprite = {
    width: right - left,
    height: bottom - top,
    pixels: new Uint8Array((right - left) * (bottom - top) * 4),
  }
  for (let y = top, to = 0; y < bottom; y++)
    for (let x = left; x < right; x++, to += 4) {
      const from = (y * width + x) * 4
      const alpha = rgba[from + 3]!
      for (let channel = 0; channel < 3; channel++)
        sprite.pixels[to + channel] = Math.round((rgba[from + channel]! * alpha) / 255)
      sprite.pixels[to + 3] = alpha
    }
  return sprite
}
