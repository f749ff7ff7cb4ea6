import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { digitalSourceType, encodeImage, parametersOfPicture } from '../../src/generation/images.ts'
import { imageFormats } from '../../src/generation/parameters.ts'
import { paint } from './paint-pool.ts'
import { someParameters } from './parameters.ts'

const width = 37
const height = 21
const picture = { pixels: paint({ seed: 3, seedIndex: 0, width, height }), width, height }
const version = 'sha256:abc'

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
  const png = await encodeImage(picture, someParameters({ width, height }), version)
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
    const bytes = await encodeImage(picture, parameters, version)
    expect(await sharp(bytes).metadata()).toMatchObject({ format, width, height })
    expect(await readXmp(bytes)).toEqual({
      source: digitalSourceType,
      parameters: { ...parameters, modelVersion: version },
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
    expect((await readXmp(await encodeImage(picture, parameters, version))).parameters).toEqual({
      ...parameters,
      modelVersion: version,
    })
  })

  test('the same request gives the same bytes', async () => {
    const parameters = someParameters({ format, width, height })
    expect(await encodeImage(picture, parameters, version)).toEqual(
      await encodeImage(picture, parameters, version),
    )
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
  const chunks = readChunks(Buffer.from(await encodeImage(picture, parameters, version)))
  expect(chunks.map(({ type }) => type)).toEqual(expect.arrayContaining(['IHDR', 'iTXt', 'IDAT', 'IEND']))
  expect(chunks.at(-1)?.type).toBe('IEND')
  const text = chunks.find(
    ({ type, data }) => type === 'iTXt' && data.subarray(0, 11).equals(Buffer.from('parameters\0')),
  )
  expect(text?.data.subarray(15).toString('utf8')).toBe(
    [
      '灯台, dusk',
      'Negative prompt: fog',
      'Steps: 3, Sampler: dpm++_2m, CFG scale: 4.5, Seed: 7, Seed index: 2, Size: 37x21, Model: paint, Model hash: sha256:abc, Clean caption: false, Version: Atelier',
    ].join('\n'),
  )
})

test.each(['jpeg', 'webp'] as const)('a lower quality makes a smaller %s, down to 0', async (format) => {
  const size = async (compression: number) =>
    (await encodeImage(picture, someParameters({ format, compression }), version)).length
  const [lowest, low, high] = [await size(0), await size(40), await size(100)]
  expect(lowest).toBeLessThan(low)
  expect(low).toBeLessThan(high)
})

test('picture i of a generation is made alone with noise slice i', () => {
  expect(parametersOfPicture(someParameters({ count: 4, seedIndex: 5 }), 3)).toEqual(
    someParameters({ count: 1, seedIndex: 8 }),
  )
})
