import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { afterAll, describe, expect, test } from 'vitest'
import { enlarge } from '../../src/diffusion/enlarge.ts'
import { Enlarger } from '../../src/generation/enlarger.ts'
import { digitalSourceType, encodeImage as encode, parametersOfPicture } from '../../src/generation/images.ts'
import { imageFormats, type GenerationParameters } from '../../src/generation/parameters.ts'
import { paint } from './paint-pool.ts'
import { someParameters } from './parameters.ts'

const width = 37
const height = 21
const picture = { pixels: paint({ seed: 3, seedIndex: 0, width, height }), width, height }
const version = 'sha256:abc'
const enlarger = new Enlarger()
const encodeImage = (of: typeof picture, parameters: GenerationParameters) =>
  encode(of, parameters, { modelVersion: version, enlarger })

afterAll(() => enlarger.close())

/** The JSON that the packet carries, read as XML text. */
function readXmp(bytes: Uint8Array): Promise<{ source: string | undefined; parameters: unknown }> {
  return sharp(bytes)
    .metadata()
    .then(({ xmp }) => {
      const packet = String(xmp)
      const element = (name: string) => new RegExp(`<${name}>(.*?)</${name}>`, 's').exec(packet)?.[1]
      const json = element('atelier:Parameters')
        ?.replaceAll('&lt;', '<')
        .replaceAll('&gt;', '>')
        .replaceAll('&amp;', '&')
      return {
        source: element('Iptc4xmpExt:DigitalSourceType'),
        parameters: JSON.parse(json ?? 'null') as unknown,
      }
    })
}

interface Chunk {
  readonly type: string
  readonly data: Buffer
}

/** All chunks of a PNG, each checksum verified. */
function readChunks(png: Buffer): Chunk[] {
  const chunks: Chunk[] = []
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at)
    const typed = png.subarray(at + 4, at + 8 + length)
    expect(png.readUInt32BE(at + 8 + length)).toBe(crc32(typed))
    chunks.push({ type: typed.toString('latin1', 0, 4), data: typed.subarray(4) })
    at += 12 + length
  }
  return chunks
}

test('a PNG holds exactly the pixels', async () => {
  const png = await encodeImage(picture, someParameters({ width, height }))
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
  expect(info).toMatchObject({ width, height, channels: 3 })
  expect(new Uint8Array(data)).toEqual(picture.pixels)
})

describe.each(imageFormats)('%s', (format) => {
  test('says which format it is and that a trained model made it, with what parameters', async () => {
    const parameters = someParameters({
      format,
      width,
      height,
      seed: 2 ** 53 - 1,
      guidanceScale: 0.30000000000000004,
    })
    const bytes = await encodeImage(picture, parameters)
    expect(await sharp(bytes).metadata()).toMatchObject({ format, width, height })
    expect(await readXmp(bytes)).toEqual({
      source: digitalSourceType,
      parameters: { ...parameters, modelVersion: version, generatedSize: '37x21' },
    })
  })

  test.each([
    ['markup', `</atelier:Parameters> & &amp; <b> ]]> "quotes" 'and' \\ back`],
    ['what XML forbids', 'a\u0001b\u001fc\u0000d\ufffee\uffff \ud800 lone'],
    ['all planes', '灯台 🗼 e\u0301 \u2028 \u200f'],
    ['the longest prompt', '&'.repeat(4000)],
    ['the longest prompt in bytes', '🗼'.repeat(4000)],
  ])('carries a prompt of %s', async (_, prompt) => {
    const parameters = someParameters({ format, width, height, prompt, negativePrompt: prompt })
    expect((await readXmp(await encodeImage(picture, parameters))).parameters).toEqual({
      ...parameters,
      modelVersion: version,
      generatedSize: '37x21',
    })
  })

  test('the same request gives the same bytes', async () => {
    const parameters = someParameters({ format, width, height })
    expect(await encodeImage(picture, parameters)).toEqual(await encodeImage(picture, parameters))
  })
})

test('a PNG tells its parameters in the text chunk that image tools show', async () => {
  const parameters = someParameters({
    width,
    height,
    prompt: '灯台, dusk',
    negativePrompt: 'fog',
    seedIndex: 2,
  })
  const chunks = readChunks(Buffer.from(await encodeImage(picture, parameters)))
  expect(chunks.map(({ type }) => type)).toEqual(expect.arrayContaining(['IHDR', 'iTXt', 'IDAT', 'IEND']))
  expect(chunks.at(-1)?.type).toBe('IEND')
  const text = chunks.find(
    ({ type, data }) => type === 'iTXt' && data.subarray(0, 11).equals(Buffer.from('parameters\0')),
  )
  expect(text?.data.subarray(15).toString('utf8')).toBe(
    [
      '灯台, dusk',
      'Negative prompt: fog',
      'Steps: 3, Sampler: dpm++_2m, CFG scale: 4.5, Seed: 7, Seed index: 2, Size: 37x21, Generated size: 37x21, Model: paint, Model hash: sha256:abc, Clean caption: false, Version: Atelier',
    ].join('\n'),
  )
})

test.each(['jpeg', 'webp'] as const)('a lower quality makes a smaller %s, down to 0', async (format) => {
  const size = async (compression: number) =>
    (await encodeImage(picture, someParameters({ format, compression, width, height }))).length
  const [lowest, low, high] = [await size(0), await size(40), await size(100)]
  expect(lowest).toBeLessThan(low)
  expect(low).toBeLessThan(high)
})

test('picture i of a generation is made alone with noise slice i', () => {
  expect(parametersOfPicture(someParameters({ count: 4, seedIndex: 5 }), 3)).toEqual(
    someParameters({ count: 1, seedIndex: 8 }),
  )
})

describe('a picture of another size than it was made at', () => {
  const read = async (size: { width: number; height: number }) => {
    const png = await encodeImage(picture, someParameters(size))
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
    expect(info).toMatchObject({ ...size, channels: 3 })
    return { png, pixels: new Uint8Array(data) }
  }

  test('is enlarged once, by the Lanczos kernel, where it is to be larger', async () => {
    const size = { width: 90, height: 90 }
    const { png, pixels } = await read(size)
    expect(pixels).toEqual(enlarge(picture.pixels, { width, height }, size))
    expect((await readXmp(png)).parameters).toMatchObject({ ...size, generatedSize: '37x21' })
    expect(Buffer.from(png).includes('Size: 90x90, Generated size: 37x21')).toBe(true)
  })

  test('is reduced once, by sharp’s Lanczos kernel, where it is to be smaller', async () => {
    const size = { width: 20, height: 9 }
    const { pixels } = await read(size)
    const raw = sharp(picture.pixels, { raw: { width, height, channels: 3 } })
    expect(pixels).toEqual(new Uint8Array(await raw.resize(20, 9, { kernel: 'lanczos3' }).raw().toBuffer()))
  })

  test('keeps its pixels where it is only to be cut', async () => {
    const { pixels } = await read({ width: 17, height: 21 })
    const rows = Array.from({ length: height }, (_, y) => 3 * (y * width + 10))
    const middle = rows.flatMap((start) => [...picture.pixels.subarray(start, start + 3 * 17)])
    expect([...pixels]).toEqual(middle)
  })
})

describe('the thread that enlarges', () => {
  test('gives each of several its own, and leaves them theirs', async () => {
    await using thread = disposable()
    const before = picture.pixels.slice()
    const sizes = [50, 80, 40, 64].map((side) => ({ width: side, height: side }))
    const enlarged = await Promise.all(sizes.map((size) => thread.enlarge(picture, size)))
    expect(enlarged).toEqual(
      sizes.map((size) => ({ pixels: enlarge(picture.pixels, { width, height }, size), ...size })),
    )
    expect(picture.pixels).toEqual(before)
  })

  test('fails those that it died with, and serves the next', async () => {
    await using thread = disposable()
    const size = { width: 64, height: 64 }
    const broken = thread.enlarge({ ...picture, pixels: picture.pixels.subarray(3) }, size)
    const behind = thread.enlarge(picture, size)
    await expect(broken).rejects.toThrow('pixels: expected 21 x 37 x 3 values')
    await expect(behind).rejects.toThrow('pixels: expected 21 x 37 x 3 values')
    expect((await thread.enlarge(picture, size)).width).toBe(64)
  })

  test('fails what is unfinished when it is closed', async () => {
    const thread = new Enlarger()
    const unfinished = thread.enlarge(picture, { width: 64, height: 64 })
    await Promise.all([expect(unfinished).rejects.toThrow('was ended'), thread.close()])
  })

  function disposable(): Enlarger & AsyncDisposable {
    const thread = new Enlarger()
    return Object.assign(thread, { [Symbol.asyncDispose]: () => thread.close() })
  }
})
