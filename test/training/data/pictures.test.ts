import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { readPicture, toPlanes } from '../../../src/training/data/pictures.ts'
import { temporaryFolder } from '../../weights/folder.ts'
import { itemOfFile } from './small-set.ts'

const red = { r: 255, g: 0, b: 0 }
const blue = { r: 0, g: 0, b: 255 }
type Colour = typeof red

const plain = (width: number, height: number, background: Colour) =>
  sharp({ create: { width, height, channels: 3, background } })

/** Red but for a blue rectangle. */
const withBlue = async (
  width: number,
  height: number,
  place: { left: number; top: number; width: number; height: number },
) =>
  sharp(
    await plain(width, height, red)
      .composite([
        {
          input: await plain(place.width, place.height, blue).png().toBuffer(),
          left: place.left,
          top: place.top,
        },
      ])
      .png()
      .toBuffer(),
  )

/** The pixels that a file with these bytes gives. */
async function pixelsOf(bytes: Uint8Array, width: number, height: number): Promise<Uint8Array> {
  const folder = await temporaryFolder()
  const file = join(folder, 'picture')
  await writeFile(file, bytes)
  return readPicture(await itemOfFile(file), { width, height })
}

const colourAt = (pixels: Uint8Array, width: number, x: number, y: number): readonly number[] => [
  ...pixels.subarray(3 * (y * width + x), 3 * (y * width + x) + 3),
]

/** The largest difference in a channel. */
const distance = (actual: readonly number[], expected: readonly number[]): number =>
  expected.reduce((most, value, i) => Math.max(most, Math.abs(actual[i]! - value)), 0)

describe('what a bucket sees of a picture', () => {
  test('is its middle: the sides of a wide one are cut off alike', async () => {
    // 96 x 32, blue in the outer thirds: a square sees the red middle third alone.
    const wide = await withBlue(96, 32, { left: 0, top: 0, width: 32, height: 32 })
    const bytes = await sharp(await wide.toBuffer())
      .composite([{ input: await plain(32, 32, blue).png().toBuffer(), left: 64, top: 0 }])
      .png()
      .toBuffer()
    const pixels = await pixelsOf(bytes, 32, 32)
    expect(pixels).toEqual(new Uint8Array(3 * 32 * 32).map((_, i) => (i % 3 === 0 ? 255 : 0)))
  })

  test('is enlarged where it is too small, and never letterboxed', async () => {
    const pixels = await pixelsOf(await plain(10, 30, blue).png().toBuffer(), 48, 32)
    expect(pixels).toHaveLength(3 * 48 * 32)
    for (const [x, y] of [
      [0, 0],
      [47, 0],
      [0, 31],
      [47, 31],
      [24, 16],
    ] as const) {
      expect(distance(colourAt(pixels, 48, x, y), [0, 0, 255])).toBeLessThanOrEqual(3)
    }
  })

  test('is made with antialiasing: a fine chequerboard becomes grey', async () => {
    const board = Uint8Array.from({ length: 3 * 256 * 256 }, (_, i) => {
      const pixel = Math.floor(i / 3)
      return (pixel + Math.floor(pixel / 256)) % 2 === 0 ? 0 : 255
    })
    const bytes = await sharp(board, { raw: { width: 256, height: 256, channels: 3 } })
      .png()
      .toBuffer()
    const pixels = await pixelsOf(bytes, 32, 32)
    expect(distance(colourAt(pixels, 32, 16, 16), [127, 127, 127])).toBeLessThanOrEqual(4)
  })

  test('is upright: EXIF orientation 6 is turned by 90 degrees', async () => {
    // Stored lying: blue on the left, which is the top once it is turned clockwise.
    const lying = await withBlue(64, 32, { left: 0, top: 0, width: 32, height: 32 })
    const bytes = await lying.withMetadata({ orientation: 6 }).jpeg({ quality: 100 }).toBuffer()
    const pixels = await pixelsOf(bytes, 32, 64)
    expect(distance(colourAt(pixels, 32, 16, 8), [0, 0, 255])).toBeLessThanOrEqual(6)
    expect(distance(colourAt(pixels, 32, 16, 56), [255, 0, 0])).toBeLessThanOrEqual(6)
  })

  test('is opaque: what shines through is white', async () => {
    const bytes = await sharp({
      create: { width: 32, height: 32, channels: 4, background: { ...red, alpha: 0.5 } },
    })
      .png()
      .toBuffer()
    expect(distance(colourAt(await pixelsOf(bytes, 32, 32), 32, 5, 5), [255, 127, 127])).toBeLessThanOrEqual(
      1,
    )
  })

  test('has three channels of eight bits, from grey, palettes, sixteen bits and print colours', async () => {
    const grey = plain(32, 32, { r: 100, g: 100, b: 100 })
    const files = {
      grey: await grey.clone().toColourspace('b-w').png().toBuffer(),
      palette: await grey.clone().png({ palette: true }).toBuffer(),
      sixteen: await grey.clone().toColourspace('rgb16').png().toBuffer(),
      webp: await grey.clone().webp({ lossless: true }).toBuffer(),
      gif: await grey.clone().gif().toBuffer(),
      tiff: await grey.clone().tiff().toBuffer(),
    }
    expect((await sharp(files.grey).metadata()).channels).toBe(1)
    expect((await sharp(files.sixteen).metadata()).depth).toBe('ushort')
    for (const bytes of Object.values(files)) {
      const pixels = await pixelsOf(bytes, 32, 32)
      expect(pixels).toHaveLength(3 * 32 * 32)
      expect(distance(colourAt(pixels, 32, 9, 20), [100, 100, 100])).toBeLessThanOrEqual(2)
    }
    const print = await plain(32, 32, red).toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer()
    expect((await sharp(print).metadata()).space).toBe('cmyk')
    const [r = 0, g = 255, b = 255] = colourAt(await pixelsOf(print, 32, 32), 32, 9, 20)
    expect(r).toBeGreaterThan(200)
    expect(Math.max(g, b)).toBeLessThan(60)
  })

  test('of an animation is the first picture', async () => {
    const frames = await Promise.all([red, blue].map((colour) => plain(32, 32, colour).png().toBuffer()))
    const bytes = await sharp(frames, { join: { animated: true } })
      .gif()
      .toBuffer()
    expect((await sharp(bytes).metadata()).pages).toBe(2)
    expect(distance(colourAt(await pixelsOf(bytes, 32, 32), 32, 16, 16), [255, 0, 0])).toBeLessThanOrEqual(3)
  })
})

test('planes hold −1 … 1, a channel after the other', () => {
  const planes = new Float32Array(6)
  toPlanes(Uint8Array.of(0, 51, 255, 255, 204, 0), planes)
  const fifth = Math.fround(0.6)
  expect([...planes]).toEqual([-1, 1, -fifth, fifth, 1, -1])
})

describe('a picture that cannot be used is told by its name', () => {
  test('a truncated one', async () => {
    const folder = await temporaryFolder()
    const noise = Uint8Array.from({ length: 3 * 64 * 64 }, (_, i) => (i * i * 7919) % 251)
    for (const format of ['png', 'jpeg', 'webp'] as const) {
      const file = join(folder, `cut.${format}`)
      const whole = await sharp(noise, { raw: { width: 64, height: 64, channels: 3 } })
        .toFormat(format)
        .toBuffer()
      await writeFile(file, whole.subarray(0, Math.floor(whole.length / 2)))
      const reading = readPicture(await itemOfFile(file, 'cat'), { width: 32, height: 32 })
      await expect(reading).rejects.toMatchObject({ name: 'TrainingDataError' })
      await expect(reading).rejects.toThrow(`picture cat (${file}): cannot be decoded: `)
    }
  })

  test('one of 50,000 x 50,000 pixels, before any of it is decoded', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'bomb.png')
    await writeFile(file, largePng(50_000))
    const reading = readPicture(await itemOfFile(file, 'bomb'), { width: 32, height: 32 })
    await expect(reading).rejects.toThrow(
      `picture bomb (${file}): cannot be decoded: Input image exceeds pixel limit`,
    )
  })

  test('one that was changed since the job was made, or is gone', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'picture.png')
    await writeFile(file, await plain(32, 32, red).png().toBuffer())
    const item = await itemOfFile(file, 'cat')
    await appendFile(file, ' ')
    await expect(readPicture(item, { width: 32, height: 32 })).rejects.toThrow(
      `picture cat (${file}): the file is no longer what it was when the job was made`,
    )
    const gone = { ...item, file: join(folder, 'gone.png') }
    await expect(readPicture(gone, { width: 32, height: 32 })).rejects.toThrow(
      `picture cat (${gone.file}): expected a readable file: ENOENT`,
    )
    expect(await readFile(file)).not.toHaveLength(0)
  })
})

/** A PNG's header of that side, with one row of a single bit a pixel. */
function largePng(side: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const typed = Buffer.concat([Buffer.from(type, 'latin1'), data])
    const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)]
    length.writeUInt32BE(data.length)
    checksum.writeUInt32BE(crc32(typed))
    return Buffer.concat([length, typed, checksum])
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(side, 0)
  header.writeUInt32BE(side, 4)
  header.set([1, 0, 0, 0, 0], 8)
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.alloc(1 + side / 8))),
    chunk('IEND', Buffer.alloc(0)),
  ])
}
