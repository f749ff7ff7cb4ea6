/** Whether a file is a picture that can be trained on, found out without trusting its name or its header. */
import { open } from 'node:fs/promises'
import sharp, { type Metadata, type SharpOptions } from 'sharp'
import { messageOf } from './errors.ts'
import type { DatasetLimits } from './limits.ts'
import type { ProblemCode } from './problems.ts'

export const pictureFormats = ['png', 'jpeg', 'webp', 'avif', 'gif', 'tiff'] as const
export type PictureFormat = (typeof pictureFormats)[number]

export const pictureExtensions: ReadonlySet<string> = new Set(
  'png jpg jpeg jpe jfif webp avif gif tif tiff'.split(' '),
)

export const expectedPicture = 'a PNG, JPEG, WebP, AVIF, GIF or TIFF picture'

export type PictureCheck =
  | {
      readonly kind: 'picture'
      readonly format: PictureFormat
      /** Upright, in pixels. */
      readonly width: number
      readonly height: number
    }
  | { readonly kind: 'refused'; readonly code: ProblemCode; readonly message: string }

const headBytes = 64
/** Small enough to cost nothing; every pixel is still decoded for it. */
const probeSide = 16

/**
 * Decodes the first frame to its last row. What the first bytes do not name as one of the formats never reaches a decoder, and what its
 * header says is too large is not decoded.
 */
export async function checkPicture(
  file: string,
  { maxPixels }: Pick<DatasetLimits, 'maxPixels'>,
): Promise<PictureCheck> {
  const format = pictureFormatOf(await readHead(file))
  if (!format) return unreadable('bytes that are none of these')
  try {
    const metadata = await sharp(file, { ...options, limitInputPixels: false }).metadata()
    const { width, height } = metadata.autoOrient
    if (decodedFormat(metadata) !== format) return unreadable(`one that calls itself ${format} and is not`)
    if (width * height > maxPixels) {
      const message = `expected at most ${maxPixels} pixels, got ${width} × ${height}`
      return { kind: 'refused', code: 'too_many_pixels', message }
    }
    const probe = sharp(file, { ...options, limitInputPixels: maxPixels })
    await probe.resize(probeSide, probeSide, { fit: 'fill' }).raw().toBuffer()
    return { kind: 'picture', format, width, height }
  } catch (error) {
    return unreadable(`a ${format} file that does not decode (${firstLine(error)})`)
  }
}

/** A file that decoders only warn of was cut short or damaged more often than not. */
const options: SharpOptions = { failOn: 'warning', sequentialRead: true }

const unreadable = (got: string): PictureCheck => ({
  kind: 'refused',
  code: 'unreadable_picture',
  message: `expected ${expectedPicture}, got ${got}`,
})

/** Decoders' messages name our own file, which is nobody's business. */
const firstLine = (error: unknown): string => {
  const [line = ''] = messageOf(error).split('\n')
  return line.replaceAll(/\/\S+/g, 'the file').slice(0, 120)
}

const decodedFormat = ({ format, compression }: Metadata): string =>
  format === 'heif' && compression === 'av1' ? 'avif' : format

async function readHead(file: string): Promise<Buffer> {
  const handle = await open(file, 'r')
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(headBytes), 0, headBytes, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

/** By the signatures that each format's specification gives. */
export function pictureFormatOf(head: Buffer): PictureFormat | undefined {
  const starts = (hex: string) => head.toString('hex', 0, hex.length / 2) === hex
  const text = (start: number, end: number) => head.toString('latin1', start, end)
  if (starts('89504e470d0a1a0a')) return 'png'
  if (starts('ffd8ff')) return 'jpeg'
  if (text(0, 4) === 'RIFF' && text(8, 12) === 'WEBP') return 'webp'
  if (['GIF87a', 'GIF89a'].includes(text(0, 6))) return 'gif'
  if (['49492a00', '4d4d002a', '49492b00', '4d4d002b'].some(starts)) return 'tiff'
  // ISO/IEC 14496-12: the brands of the first box.
  if (text(4, 8) === 'ftyp' && /avi[fs]/.test(text(8, headBytes))) return 'avif'
  return undefined
}

/** A WebP that fits into a square of this side, upright. */
export async function thumbnail(file: string, maxSide: number, maxPixels: number): Promise<Buffer> {
  return sharp(file, { ...options, limitInputPixels: maxPixels })
    .autoOrient()
    .resize({ width: maxSide, height: maxSide, fit: 'inside', withoutEnlargement: true })
    .webp({ quality: 80 })
    .toBuffer()
}
