/** Files → pixels of a bucket: upright, opaque, sRGB, covering the bucket and cut to its middle. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import sharp from 'sharp'
import type { Bucket } from '../../diffusion/buckets.ts'
import type { TrainingItem } from '../job.ts'
import { reasonOf, TrainingDataError } from './errors.ts'

/** Larger pictures are refused before anything of them is decoded. */
export const maxInputPixels = 2 ** 27

/** Changes whenever the same file gives other pixels: what is kept of pictures is kept under it. */
export const preparation = 'lanczos3 cover centre 1'

/**
 * EXIF orientation is applied, transparency laid on white, other colour spaces converted. Of an animation the first picture.
 * @returns (H, W, 3), eight bits a channel
 * @throws {TrainingDataError} naming the picture, when the file is not what it was when the job was made or cannot be decoded
 */
export async function readPicture(
  { id, file, sha256 }: TrainingItem,
  bucket: Bucket,
): Promise<Uint8Array<ArrayBuffer>> {
  const where = `picture ${id} (${file})`
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new TrainingDataError(`${where}: expected a readable file: ${reasonOf(cause)}`, { cause })
  })
  if (createHash('sha256').update(bytes).digest('hex') !== sha256) {
    throw new TrainingDataError(`${where}: the file is no longer what it was when the job was made`)
  }
  return decodePicture(bytes, bucket).catch((cause: unknown) => {
    throw new TrainingDataError(`${where}: cannot be decoded: ${reasonOf(cause)}`, { cause })
  })
}

async function decodePicture(bytes: Uint8Array, { width, height }: Bucket): Promise<Uint8Array<ArrayBuffer>> {
  const { data, info } = await sharp(bytes, { limitInputPixels: maxInputPixels, failOn: 'error' })
    .autoOrient()
    .toColourspace('srgb')
    .flatten({ background: '#fff' })
    .resize({ width, height, fit: 'cover', position: 'centre', kernel: 'lanczos3' })
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  if (info.channels !== 3) throw new Error(`expected 3 channels, got ${info.channels}`)
  return new Uint8Array(data)
}

/** Writes eight-bit pixels (H, W, 3) as (3, H, W) in −1 … 1. */
export function toPlanes(pixels: Uint8Array, planes: Float32Array): void {
  const plane = pixels.length / 3
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < plane; i++) planes[channel * plane + i] = pixels[3 * i + channel]! / 127.5 - 1
  }
}
