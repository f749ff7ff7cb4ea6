/**
 * Micro-batches of a stage that trains the transformer: noised latents as tokens, and what the transformer is told of them.
 *
 * Shapes: R rows, N image tokens, P numbers a token, T text tokens, D text width, C latent channels, h × w latents.
 */
import type { Bucket } from '../../diffusion/buckets.ts'
import { gridCoordinates, patchify, type LatentLayout } from '../../diffusion/patches.ts'
import { addNoise, type DiffusionProcess } from '../diffusion-process.ts'
import type { Tensor } from '../host.ts'
import type { TrainingStage } from '../job.ts'
import type { LatentCache, Posterior } from './latent-cache.ts'
import type { StagePicture } from './selection.ts'
import type { BatchLayout, Batches, DrawnRow, MicroBatch, NeededRow, Progress } from './micro-batch.ts'
import type { TextCache } from './text-cache.ts'

interface LatentBatchesOptions {
  readonly stage: TrainingStage
  readonly layout: BatchLayout
  readonly process: DiffusionProcess
  readonly latents: LatentCache
  readonly texts: TextCache
  readonly classes: readonly string[]
}

/** T is a multiple of it: few shapes, and little padding. */
const textLengthGrid = 8

const float32 = (data: Float32Array, ...dims: number[]): Tensor => ({ dtype: 'float32', data, dims })
const int32 = (data: Int32Array, ...dims: number[]): Tensor => ({ dtype: 'int32', data, dims })

export class LatentBatches implements Batches {
  readonly #options: LatentBatchesOptions
  readonly #coordinates = new Map<Bucket, Float32Array>()
  readonly #classNumbers: ReadonlyMap<string, number>
  /** What one row's latents are made in. */
  #scratch = new Float32Array(0)

  constructor(options: LatentBatchesOptions) {
    this.#options = options
    this.#classNumbers = new Map(options.classes.map((label, number) => [label, number]))
  }

  async assemble(rows: readonly DrawnRow[]): Promise<MicroBatch> {
    const { picture } = rows[0]!
    const { width, height } = picture.bucket
    const posteriors: Posterior[] = []
    for (const row of rows) posteriors.push(await this.#options.latents.get(row.picture))
    return {
      rows: rows.length,
      items: rows.map(({ picture }) => picture.item.id),
      width,
      height,
      feeds: {
        ...this.#latentFeeds(rows, posteriors),
        ...(await this.#conditionFeeds(rows)),
        ...(this.#options.layout.microConditioned ? sizeFeeds(rows) : {}),
      },
    }
  }

  ahead(rows: readonly DrawnRow[]): void {
    for (const row of rows) {
      this.#options.latents.ahead(row.picture)
      if (this.#isToldOfText()) this.#options.texts.ahead(this.#textOf(row))
    }
  }

  async *prepare(rows: Iterable<NeededRow>): AsyncGenerator<Progress> {
    const { latents, texts, stage } = this.#options
    const isTold = this.#isToldOfText()
    const pictures = new Set<StagePicture>()
    // Whose caption is left out is drawn at every use: the empty text is needed sooner or later.
    const captions = new Set(isTold ? [''] : [])
    let seen = 0
    for (const row of rows) {
      pictures.add(row.picture)
      if (isTold && stage.condition === 'text') captions.add(row.caption)
      if (++seen % drawnAtOnce === 0) yield { done: 0, of: pictures.size + captions.size }
    }
    const of = pictures.size + captions.size
    let done = 0
    for (const chunk of chunksOf(pictures)) {
      const missing = await missingOf(latents, chunk)
      done += chunk.length - missing.length
      yield { done, of }
      for await (const _ of latents.encodeAll(missing)) yield { done: ++done, of }
    }
    for (const chunk of chunksOf(captions)) {
      const missing = await missingOf(texts, chunk)
      done += chunk.length - missing.length
      yield { done, of }
      for (const caption of missing) {
        await texts.get(caption)
        yield { done: ++done, of }
      }
    }
  }

  #latentFeeds(rows: readonly DrawnRow[], posteriors: readonly Posterior[]): Record<string, Tensor> {
    const { layout, process } = this.#options
    const { bucket } = rows[0]!.picture
    const { patchSize, latentScale, latentChannels: channels, scalingFactor } = layout
    const grid = {
      channels,
      height: bucket.height / latentScale,
      width: bucket.width / latentScale,
      patchSize,
    }
    const numbers = channels * grid.height * grid.width
    const coordinates = this.#coordinatesOf(bucket, grid)
    const R = rows.length
    const [N, P] = [coordinates.length / 2, channels * patchSize ** 2]
    const [clean, noise] = [new Float32Array(R * numbers), new Float32Array(R * numbers)]
    const [tokens, coords] = [new Float32Array(R * numbers), new Float32Array(R * coordinates.length)]
    const timesteps = new Float32Array(R)
    for (const [row, { timestep, noise: random, posterior }] of rows.entries()) {
      const part = (all: Float32Array): Float32Array => all.subarray(row * numbers, (row + 1) * numbers)
      const latents = this.#sample(posteriors[row]!, posterior, scalingFactor)
      patchify(latents, grid, part(clean))
      random.fillNormal(part(noise))
      addNoise(process, { clean: part(clean), noise: part(noise), timestep }, part(tokens))
      coords.set(coordinates, row * coordinates.length)
      timesteps[row] = timestep
    }
    return {
      tokens: float32(tokens, R, N, P),
      clean: float32(clean, R, N, P),
      noise: float32(noise, R, N, P),
      coords: float32(coords, R, N, 2),
      timestep: float32(timesteps, R),
    }
  }

  /** @returns latents (C, h, w), scaled; valid until the next call */
  #sample(
    { mean, deviation }: Posterior,
    random: DrawnRow['posterior'],
    scalingFactor: number,
  ): Float32Array {
    if (this.#scratch.length !== mean.length) this.#scratch = new Float32Array(mean.length)
    const latents = this.#scratch
    if (random) random.fillNormal(latents)
    else latents.fill(0)
    for (let i = 0; i < latents.length; i++) {
      latents[i] = scalingFactor * (mean[i]! + deviation[i]! * latents[i]!)
    }
    return latents
  }

  #coordinatesOf(bucket: Bucket, grid: LatentLayout): Float32Array {
    const { baseSize, interpolationScale } = this.#options.layout
    const coordinates =
      this.#coordinates.get(bucket) ?? gridCoordinates({ ...grid, baseSize, interpolationScale })
    this.#coordinates.set(bucket, coordinates)
    return coordinates
  }

  async #conditionFeeds(rows: readonly DrawnRow[]): Promise<Record<string, Tensor>> {
    const { stage } = this.#options
    if (stage.condition === 'class') return { class: int32(this.#classesOf(rows), rows.length) }
    return stage.trainTextEncoder ? this.#idFeeds(rows) : this.#textFeeds(rows)
  }

  #classesOf(rows: readonly DrawnRow[]): Int32Array {
    const none = this.#classNumbers.size
    return Int32Array.from(rows, ({ picture: { item }, dropped }) =>
      dropped || item.label === undefined ? none : (this.#classNumbers.get(item.label) ?? none),
    )
  }

  async #textFeeds(rows: readonly DrawnRow[]): Promise<Record<string, Tensor>> {
    const { texts, layout } = this.#options
    const D = layout.captionWidth
    const encoded = []
    for (const row of rows) encoded.push(await texts.get(this.#textOf(row)))
    const { T, mask } = maskOf(encoded.map(({ ids }) => ids.length))
    const text = new Float32Array(rows.length * T * D)
    for (const [row, { hidden }] of encoded.entries()) text.set(hidden, row * T * D)
    return { text: float32(text, rows.length, T, D), mask }
  }

  #idFeeds(rows: readonly DrawnRow[]): Record<string, Tensor> {
    const tokens = rows.map((row) => this.#options.texts.tokens(this.#textOf(row)))
    const { T, mask } = maskOf(tokens.map(({ length }) => length))
    const ids = new Int32Array(rows.length * T) // T5's padding is token 0
    for (const [row, own] of tokens.entries()) ids.set(own, row * T)
    return { ids: int32(ids, rows.length, T), mask }
  }

  /** What of text the transformer is told, if anything, comes from the cache. */
  #isToldOfText(): boolean {
    const { condition, trainTextEncoder } = this.#options.stage
    return condition !== 'class' && !trainTextEncoder
  }

  #textOf({ caption, dropped }: DrawnRow): string {
    return dropped || this.#options.stage.condition === 'none' ? '' : caption
  }
}

/** Between two turns: how many rows are drawn, and how many things are looked up in a cache. */
const drawnAtOnce = 4096
const checkedAtOnce = 256

function chunksOf<T>(all: Iterable<T>): readonly (readonly T[])[] {
  const list = [...all]
  return Array.from({ length: Math.ceil(list.length / checkedAtOnce) }, (_, i) =>
    list.slice(i * checkedAtOnce, (i + 1) * checkedAtOnce),
  )
}

async function missingOf<T>(
  cache: { has(one: T): Promise<boolean> },
  wanted: readonly T[],
): Promise<readonly T[]> {
  const there = await Promise.all(wanted.map((one) => cache.has(one)))
  return wanted.filter((_, index) => !there[index])
}

function maskOf(lengths: readonly number[]): { readonly T: number; readonly mask: Tensor } {
  const T = Math.ceil(Math.max(...lengths) / textLengthGrid) * textLengthGrid
  const mask = new Float32Array(lengths.length * T)
  for (const [row, length] of lengths.entries()) mask.fill(1, row * T, row * T + length)
  return { T, mask: float32(mask, lengths.length, T) }
}

/**
 * What the PixArt-α code trains with: the picture's own height and width, and the ratio of its bucket. (Serving, as diffusers, gives
 * the bucket's sides for both: it asks for a picture that was never smaller.)
 */
function sizeFeeds(rows: readonly DrawnRow[]): Record<string, Tensor> {
  const R = rows.length
  const resolution = Float32Array.from(rows.flatMap(({ picture: { item } }) => [item.height, item.width]))
  const ratio = Float32Array.from(rows, ({ picture: { bucket } }) => bucket.height / bucket.width)
  return { resolution: float32(resolution, R, 2), aspect_ratio: float32(ratio, R, 1) }
}
