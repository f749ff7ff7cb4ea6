/** All items of a suite in one picture: square cells from left to right and from top to bottom, an item in each one's top left corner. */
import sharp from 'sharp'
import type { Sprite } from './picture.ts'

interface Size {
  readonly width: number
  readonly height: number
}

/**
 * @param sprites none larger than a cell
 * @returns a WebP that keeps alpha as it is and colours within a few of their 256 values
 */
export async function packAtlas(sprites: readonly Sprite[], cell: number): Promise<Buffer> {
  const columns = Math.ceil(Math.sqrt(sprites.length))
  const width = columns * cell
  const height = Math.ceil(sprites.length / columns) * cell
  const pixels = new Uint8Array(width * height * 4)
  for (const [index, sprite] of sprites.entries())
    forEachPixel(sprite, originOf(index, columns, cell), width, (inSprite, inAtlas) => {
      const alpha = sprite.pixels[inSprite + 3]!
      pixels[inAtlas + 3] = alpha
      if (alpha === 0) return
      for (let channel = 0; channel < 3; channel++)
        pixels[inAtlas + channel] = Math.min(
          255,
          Math.round((sprite.pixels[inSprite + channel]! * 255) / alpha),
        )
    })
  return sharp(pixels, { raw: { width, height, channels: 4 } })
    .webp({ nearLossless: true, quality: 60, effort: 6 })
    .toBuffer()
}

/**
 * @param sizes of the items, in the order in which they were packed
 * @throws {RangeError} when the picture has too few cells, or an item does not fit its own
 */
export async function unpackAtlas(
  file: Uint8Array,
  sizes: readonly Size[],
  cell: number,
): Promise<readonly Sprite[]> {
  const { data, info } = await sharp(file).ensureAlpha().raw().toBuffer({ resolveWithObject: true })
  const columns = Math.floor(info.width / cell)
  const cells = columns * Math.floor(info.height / cell)
  if (cells < sizes.length)
    throw new RangeError(`expected ${sizes.length} cells of ${cell} pixels, got ${cells}`)
  return sizes.map(({ width, height }, index) => {
    if (width > cell || height > cell)
      throw new RangeError(`expected items of at most ${cell} pixels, got one of ${width} × ${height}`)
    const sprite: Sprite = { width, height, pixels: new Uint8Array(width * height * 4) }
    forEachPixel(sprite, originOf(index, columns, cell), info.width, (inSprite, inAtlas) => {
      const alpha = data[inAtlas + 3]!
      for (let channel = 0; channel < 3; channel++)
        sprite.pixels[inSprite + channel] = Math.round((data[inAtlas + channel]! * alpha) / 255)
      sprite.pixels[inSprite + 3] = alpha
    })
    return sprite
  })
}

const originOf = (index: number, columns: number, cell: number) => ({
  x: (index % columns) * cell,
  y: Math.floor(index / columns) * cell,
})

function forEachPixel(
  { width, height }: Size,
  origin: { readonly x: number; readonly y: number },
  atlasWidth: number,
  act: (inSprite: number, inAtlas: number) => void,
): void {
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) act((y * width + x) * 4, ((origin.y + y) * atlasWidth + origin.x + x) * 4)
}
