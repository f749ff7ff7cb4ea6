/**
 * Pictures as the VAE sees them, encoded once for all jobs. Mean and spread are kept, not a sample: one is drawn at every use, as in
 * the PixArt-α code (InternalData.vae_feat_loader). They stay float32, so that a job does not depend on what was cached before it.
 *
 * Shapes: C latent channels, h × w latents.
 */
import { join } from 'node:path'
import type { Bucket } from '../../diffusion/buckets.ts'
import type { Tensor } from '../host.ts'
import type { TrainingItem } from '../job.ts'
import { ArrayCache, type CacheKey } from './array-cache.ts'
import { requireFinite } from './errors.ts'
import { KeptLoads } from './kept-loads.ts'
import { preparation, readPicture, toPlanes } from './pictures.ts'

/** A picture and the size that it is trained at. */
export interface FramedPicture {
  readonly item: TrainingItem
  readonly bucket: Bucket
}

/** What is known of a picture's latents, not yet multiplied by the scaling factor. */
export interface Posterior {
  readonly mean: Float32Array // (C, h, w)
  /** Square root of the variance. */
  readonly deviation: Float32Array // (C, h, w)
}

/** Pixels (1, 3, H, W) in −1 … 1 → mean and logvar (1, C, h, w). */
export type EncodeImage = (
  pixels: Tensor,
) => Promise<{ readonly mean: Float32Array; readonly logvar: Float32Array }>

export interface LatentCacheOptions {
  readonly folder: string
  /** Fingerprint of the VAE's weights. */
  readonly version: string
  readonly encode: EncodeImage
  readonly channels: number
  /** Pixels along one side of a latent. */
  readonly scale: number
  readonly memoryBytes: number
}

export class LatentCache {
  readonly #options: LatentCacheOptions
  readonly #files: ArrayCache
  readonly #kept: KeptLoads<FramedPicture, Posterior>

  constructor(options: LatentCacheOptions) {
    this.#options = options
    this.#files = new ArrayCache(join(options.folder, 'latents'))
    this.#kept = new KeptLoads(
      options.memoryBytes,
      ({ mean, deviation }) => mean.byteLength + deviation.byteLength,
      async (picture) => {
        const cached = await this.#files.read(this.#keyOf(picture))
        return cached && posteriorOf(cached.data)
      },
    )
  }

  has(picture: FramedPicture): Promise<boolean> {
    return this.#files.has(this.#keyOf(picture), this.#dimsOf(picture))
  }

  /** Encodes what is not there. @throws {TrainingDataError} when the picture cannot be decoded */
  async get(picture: FramedPicture): Promise<Posterior> {
    return (await this.#kept.get(picture)) ?? this.#encode(picture, await readPixels(picture))
  }

  /** Reads what is there in the meantime. */
  ahead(picture: FramedPicture): void {
    this.#kept.ahead(picture)
  }

  /** Encodes these, one at each turn; the next is decoded while one is encoded. */
  async *encodeAll(pictures: readonly FramedPicture[]): AsyncGenerator<FramedPicture> {
    let next = begin(pictures[0])
    for (const [index, picture] of pictures.entries()) {
      const pixels = await next!
      next = begin(pictures[index + 1])
      await this.#encode(picture, pixels)
      yield picture
    }
  }

  async #encode(picture: FramedPicture, pixels: Uint8Array): Promise<Posterior> {
    const { width, height } = picture.bucket
    const image = new Float32Array(pixels.length)
    toPlanes(pixels, image)
    const { mean, logvar } = await this.#options.encode({
      dtype: 'float32',
      data: image,
      dims: [1, 3, height, width],
    })
    const data = new Float32Array(2 * mean.length)
    data.set(mean)
    data.set(logvar, mean.length)
    requireFinite(data, `picture ${picture.item.id} (${picture.item.file}), latents`)
    await this.#files.write(this.#keyOf(picture), { dims: this.#dimsOf(picture), data })
    const posterior = posteriorOf(data)
    this.#kept.set(picture, posterior)
    return posterior
  }

  #keyOf({ item, bucket }: FramedPicture): CacheKey {
    return [item.sha256, bucket.width, bucket.height, preparation, this.#options.version]
  }

  #dimsOf({ bucket: { width, height } }: FramedPicture): readonly number[] {
    const { channels, scale } = this.#options
    return [2, channels, height / scale, width / scale]
  }
}

const readPixels = ({ item, bucket }: FramedPicture): Promise<Uint8Array> => readPicture(item, bucket)

/** What goes wrong is told when it is awaited. */
function begin(picture: FramedPicture | undefined): Promise<Uint8Array> | undefined {
  const pixels = picture && readPixels(picture)
  pixels?.catch(() => undefined)
  return pixels
}

/** @param data mean, then logvar (2, C, h, w), whose place the deviation takes */
function posteriorOf(data: Float32Array): Posterior {
  const [mean, deviation] = [data.subarray(0, data.length / 2), data.subarray(data.length / 2)]
  for (let i = 0; i < deviation.length; i++) deviation[i] = Math.exp(deviation[i]! / 2)
  return { mean, deviation }
}
