/**
 * Pixels → a picture file that says how it was made.
 *
 * All formats carry an XMP packet with IPTC's Digital Source Type for pictures made by a trained model
 * (https://cv.iptc.org/newscodes/digitalsourcetype/, IPTC Photo Metadata Standard 2023.1 § 16.12) and the parameters as
 * JSON. PNG also carries them as the `parameters` text that image tools show. Nothing in a file depends on when or
 * where it was made: the same request gives the same bytes.
 */
import { crc32 } from 'node:zlib'
import sharp, { type Sharp } from 'sharp'
import { coverScale } from '../diffusion/enlarge.ts'
import type { Picture } from '../engine/pool.ts'
import type { Enlarger } from './enlarger.ts'
import type { GenerationParameters, ImageFormat } from './parameters.ts'

export const digitalSourceType = 'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'
export const parametersNamespace = 'https://atelier.invalid/ns/1.0/'

/** What makes one picture of a generation again, alone. */
export function parametersOfPicture(parameters: GenerationParameters, index: number): GenerationParameters {
  return { ...parameters, count: 1, seedIndex: parameters.seedIndex + index }
}

type Size = Pick<Picture, 'width' | 'height'>

interface Origin {
  readonly modelVersion: string
  /** Width and height at which the model made it, as `WIDTHxHEIGHT`. */
  readonly generatedSize: string
}

/** As the contract and the files' metadata write it. */
export const sizeText = ({ width, height }: Size): string => `${width}x${height}`

/**
 * The file of a picture, at the size that was asked for: scaled once, both ways alike, so that it covers that size, and cut
 * to it around the centre.
 *
 * @param parameters of this one picture
 */
export async function encodeImage(
  picture: Picture,
  parameters: GenerationParameters,
  { modelVersion, enlarger }: { readonly modelVersion: string; readonly enlarger: Enlarger },
): Promise<Uint8Array> {
  const origin: Origin = { modelVersion, generatedSize: sizeText(picture) }
  const isSmaller = coverScale(picture, parameters) > 1
  const scaled = scaledDown(isSmaller ? await enlarger.enlarge(picture, parameters) : picture, parameters)
  const bytes = await formats[parameters.format]
    .encode(scaled, parameters.compression)
    .withXmp(xmpPacket(parameters, origin))
    .toBuffer()
  return parameters.format === 'png'
    ? withTextChunk(bytes, 'parameters', describe(parameters, origin))
    : bytes
}

/**
 * A look at a picture in the making, gone soon: cut to the ratio of what was asked for, no larger than it was decoded.
 *
 * @param asked of the finished picture
 */
export async function encodePreview(
  picture: Picture,
  asked: Size,
): Promise<{ readonly bytes: Uint8Array } & Size> {
  const scale = Math.max(1, coverScale(picture, asked))
  const side = (wanted: number) => Math.max(1, Math.round(wanted / scale))
  const size = { width: side(asked.width), height: side(asked.height) }
  const bytes = await scaledDown(picture, size).webp({ quality: previewQuality }).toBuffer()
  return { bytes, ...size }
}

/** @param to no larger than the picture */
function scaledDown({ pixels, width, height }: Picture, to: Size): Sharp {
  return sharp(pixels, { raw: { width, height, channels: 3 } }).resize(to.width, to.height, {
    fit: 'cover',
    position: 'centre',
    kernel: 'lanczos3',
  })
}

const previewQuality = 70

/** sharp's qualities begin at 1. */
const quality = (compression: number) => Math.max(1, compression)

const formats: Readonly<
  Record<ImageFormat, { extension: string; encode: (raw: Sharp, compression: number) => Sharp }>
> = {
  png: { extension: 'png', encode: (raw) => raw.png() },
  jpeg: { extension: 'jpg', encode: (raw, compression) => raw.jpeg({ quality: quality(compression) }) },
  webp: { extension: 'webp', encode: (raw, compression) => raw.webp({ quality: quality(compression) }) },
}

/** How a file of this format ends its name, without the dot. */
export const fileExtension = (format: ImageFormat): string => formats[format].extension

/** The form that AUTOMATIC1111's web UI began and other tools read: prompt, negative prompt, then `Name: value` pairs. */
function describe(parameters: GenerationParameters, { modelVersion, generatedSize }: Origin): string {
  const pairs = {
    Steps: parameters.steps,
    Sampler: parameters.scheduler,
    'CFG scale': parameters.guidanceScale,
    Seed: parameters.seed,
    'Seed index': parameters.seedIndex,
    Size: sizeText(parameters),
    'Generated size': generatedSize,
    Model: parameters.model,
    'Model hash': modelVersion,
    'Clean caption': parameters.cleanCaption,
    Version: 'Atelier',
  }
  const list = Object.entries(pairs).map(([name, value]) => `${name}: ${value}`)
  const negative = parameters.negativePrompt === '' ? [] : [`Negative prompt: ${parameters.negativePrompt}`]
  return [parameters.prompt, ...negative, list.join(', ')].join('\n')
}

function xmpPacket(parameters: GenerationParameters, origin: Origin): string {
  return `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:atelier="${parametersNamespace}"><xmp:CreatorTool>Atelier</xmp:CreatorTool><Iptc4xmpExt:DigitalSourceType>${digitalSourceType}</Iptc4xmpExt:DigitalSourceType><atelier:Parameters>${xmlText({ ...parameters, ...origin })}</atelier:Parameters></rdf:Description></rdf:RDF></x:xmpmeta>`
}

/** JSON as XML text. JSON escapes control characters and lone surrogates itself; two more code points are no XML. */
function xmlText(value: unknown): string {
  return JSON.stringify(value)
    .replace(/[\uFFFE\uFFFF]/g, (character) => `\\u${character.charCodeAt(0).toString(16)}`)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
}

/** Puts a UTF-8 text chunk right behind the header (PNG 3rd edition, 11.3.3.4: iTXt, uncompressed). */
function withTextChunk(png: Buffer, keyword: string, text: string): Buffer {
  const noCompressionNoLanguage = [0, 0, 0, 0, 0]
  const data = Buffer.concat([
    Buffer.from(keyword, 'latin1'),
    Buffer.from(noCompressionNoLanguage),
    Buffer.from(text, 'utf8'),
  ])
  const typed = Buffer.concat([Buffer.from('iTXt', 'latin1'), data])
  const chunk = Buffer.alloc(4 + typed.length + 4)
  chunk.writeUInt32BE(data.length, 0)
  typed.copy(chunk, 4)
  chunk.writeUInt32BE(crc32(typed), 4 + typed.length)
  const headerEnd = 8 + 4 + 4 + 13 + 4 // signature; IHDR's length, type, data, checksum
  return Buffer.concat([png.subarray(0, headerEnd), chunk, png.subarray(headerEnd)])
}
