/** Micro-batches of a stage that trains the VAE: pixels. Nothing of it is cached on disk. R rows, H × W pixels, C channels, h × w latents. */
import { KeptLoads } from './kept-loads.ts'
import { readPicture, toPlanes } from './pictures.ts'
import type { StagePicture } from './selection.ts'
import type { BatchLayout, Batches, DrawnRow, MicroBatch, Progress } from './micro-batch.ts'

export class PictureBatches implements Batches {
  readonly #layout: BatchLayout
  readonly #pixels: KeptLoads<StagePicture, Uint8Array>

  constructor(layout: BatchLayout, memoryBytes: number) {
    this.#layout = layout
    this.#pixels = new KeptLoads(
      memoryBytes,
      (pixels) => pixels.byteLength,
      ({ item, bucket }) => readPicture(item, bucket),
    )
  }

  async assemble(rows: readonly DrawnRow[]): Promise<MicroBatch> {
    const { width, height } = rows[0]!.picture.bucket
    const { latentChannels, latentScale } = this.#layout
    const [h, w] = [height / latentScale, width / latentScale]
    const [size, noiseSize] = [3 * height * width, latentChannels * h * w]
    const image = new Float32Array(rows.length * size)
    const noise = new Float32Array(rows.length * noiseSize)
    for (const [row, { picture, noise: random }] of rows.entries()) {
      const pixels = await this.#pixels.get(picture)
      toPlanes(pixels!, image.subarray(row * size, (row + 1) * size))
      random.fillNormal(noise.subarray(row * noiseSize, (row + 1) * noiseSize))
    }
    return {
      rows: rows.length,
      items: rows.map(({ picture }) => picture.item.id),
      width,
      height,
      feeds: {
        image: { dtype: 'float32', data: image, dims: [rows.length, 3, height, width] },
        noise: { dtype: 'float32', data: noise, dims: [rows.length, latentChannels, h, w] },
      },
    }
  }

  ahead(rows: readonly DrawnRow[]): void {
    for (const { picture } of rows) this.#pixels.ahead(picture)
  }

  async *prepare(): AsyncGenerator<Progress> {
    // There is nothing to encode with while the VAE is being made.
  }
}
