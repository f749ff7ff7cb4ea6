/**
 * The pictures of one stage, encoded, in the order in which they are trained on. A micro-batch is a function of the job's seed, the
 * stage, the step and the index, on whatever device it is made: order, caption, dropout, timestep and noise are drawn by place.
 */
import type { Tokenizer } from '../../text/tokenizer.ts'
import type { DiffusionProcess } from '../diffusion-process.ts'
import type { TrainingJob, TrainingStage } from '../job.ts'
import { LatentCache, type EncodeImage } from './latent-cache.ts'
import { readManifest } from './manifest.ts'
import { LatentBatches } from './latent-batches.ts'
import type { BatchLayout, Batches, DrawnRow, MicroBatch, NeededRow, Progress } from './micro-batch.ts'
import { PictureBatches } from './picture-batches.ts'
import { RandomNumbers } from './randomness.ts'
import { Sampler } from './sampler.ts'
import { selectPictures, type Selection, type StagePicture } from './selection.ts'
import { TextCache, type EncodeText } from './text-cache.ts'

export interface StageDataOptions {
  readonly job: TrainingJob
  readonly stageIndex: number
  /** Of a micro-batch; divides the stage's batch. */
  readonly rows: number
  readonly layout: BatchLayout
  /** Asked for what the caches lack: by `prepare`, and later only for files that were lost or damaged since. */
  readonly encode: { readonly image: EncodeImage; readonly text: EncodeText }
  /** Fingerprints of the weights that encode: what is cached is cached under them. */
  readonly versions: { readonly vae: string; readonly text: string }
  readonly tokenizer: Tokenizer
  readonly process: DiffusionProcess
}

interface Opened {
  readonly job: TrainingJob
  readonly stageIndex: number
  readonly stage: TrainingStage
  readonly selection: Selection
  /** Places of the pictures that are trained on, by bucket. */
  readonly groups: readonly (readonly number[])[]
  readonly batches: Batches
  readonly timesteps: number
}

/** Each kind of thing that is kept in memory is bounded by this; the rest is read from disk again. */
const memoryBytes = 2 ** 28

/** So many at least, so that a few held-out pictures are judged at more than a few timesteps. */
const fewestHeldOutRows = 16

export class StageData {
  readonly classes: readonly string[]
  /** That are trained on. */
  readonly pictures: number
  /** That it is judged by. */
  readonly heldOutPictures: number
  readonly microBatchesPerStep: number
  readonly #opened: Opened
  readonly #rows: number
  readonly #sampler: Sampler

  private constructor(opened: Opened, rows: number) {
    const { job, stageIndex, stage, selection, groups } = opened
    this.#opened = opened
    this.#rows = rows
    this.classes = selection.classes
    this.pictures = selection.training.length
    this.heldOutPictures = selection.heldOut.length
    const { seed } = job
    this.#sampler = new Sampler({ seed, stage: stageIndex, groups, batchSize: stage.batchSize, rows })
    this.microBatchesPerStep = this.#sampler.microBatchesPerStep
  }

  /**
   * Reads the manifest, leaves out what the stage's filter leaves out, holds some pictures back, and assigns buckets.
   * @throws {TrainingDataError} naming the line, the picture, or what the stage lacks
   */
  static async open(options: StageDataOptions): Promise<StageData> {
    const { job, stageIndex, rows, layout, encode, versions, tokenizer, process } = options
    const stage = job.stages[stageIndex]
    if (!stage)
      throw new RangeError(`stageIndex: expected one of ${job.stages.length} stages, got ${stageIndex}`)
    const items = await Array.fromAsync(readManifest(job.manifest))
    const vaeGrid = stage.equivarianceWeight > 0 ? 2 : 1
    const grid = layout.latentScale * (stage.kind === 'vae' ? vaeGrid : layout.patchSize)
    const selection = selectPictures(items, job, stageIndex, grid)
    const latents = new LatentCache({
      folder: job.cacheDir,
      version: versions.vae,
      encode: encode.image,
      channels: layout.latentChannels,
      scale: layout.latentScale,
      memoryBytes,
    })
    const texts = new TextCache({
      folder: job.cacheDir,
      version: versions.text,
      tokenizer,
      encode: encode.text,
      width: layout.captionWidth,
      memoryBytes,
    })
    const batches =
      stage.kind === 'vae'
        ? new PictureBatches(layout, memoryBytes)
        : new LatentBatches({ stage, layout, process, latents, texts, classes: selection.classes })
    const groups = groupsOf(selection.training)
    const { timesteps } = process
    return new StageData({ job, stageIndex, stage, selection, groups, batches, timesteps }, rows)
  }

  /** The same pictures in micro-batches of another size; shares all that is kept. */
  withRows(rows: number): StageData {
    return new StageData(this.#opened, rows)
  }

  /**
   * Encodes what this stage will draw, in micro-batches of whatever size, and the caches lack: pictures first, then texts, one at
   * each turn.
   */
  prepare(): AsyncGenerator<Progress> {
    return this.#opened.batches.prepare(this.#needed())
  }

  /** @param step from 0 @param index below `microBatchesPerStep` */
  async microBatch(step: number, index: number): Promise<MicroBatch> {
    const micro = await this.#opened.batches.assemble(this.#draw(step, index))
    const next =
      index + 1 < this.microBatchesPerStep ? ([step, index + 1] as const) : ([step + 1, 0] as const)
    if (next[0] < this.#opened.stage.steps) this.#opened.batches.ahead(this.#draw(...next))
    return micro
  }

  /**
   * The held-out pictures with their first captions, the means of their latents, noise that is the same every time, and timesteps that
   * are spread evenly; each picture at several timesteps where there are few. Micro-batches may have fewer rows.
   */
  async *heldOut(): AsyncGenerator<MicroBatch> {
    for (const rows of this.#heldOutRows()) yield await this.#opened.batches.assemble(rows)
  }

  #draw(step: number, index: number): readonly DrawnRow[] {
    const { job, stageIndex: stage, timesteps } = this.#opened
    return this.#needs(step, index).map((needed, row) => {
      const at = { seed: job.seed, stage, step, sample: index * this.#rows + row }
      const choice = new RandomNumbers({ ...at, purpose: 'choice' })
      return {
        ...needed,
        timestep: choice.below(timesteps),
        dropped: choice.uniform() < this.#opened.stage.captionDropout,
        noise: new RandomNumbers({ ...at, purpose: 'noise' }),
        posterior: new RandomNumbers({ ...at, purpose: 'posterior' }),
      }
    })
  }

  /** The pictures of a micro-batch, each with its caption of that epoch. */
  #needs(step: number, index: number): readonly NeededRow[] {
    const { job, stageIndex: stage, selection } = this.#opened
    const { epoch, pictures } = this.#sampler.microBatch(step, index)
    return pictures.map((place) => {
      const picture = selection.training[place]!
      const at = { seed: job.seed, stage, step: epoch, sample: picture.number }
      const which = new RandomNumbers({ ...at, purpose: 'caption' }).below(picture.captions.length)
      return { picture, caption: picture.captions[which]! }
    })
  }

  *#heldOutRows(): Generator<readonly DrawnRow[]> {
    const { job, stageIndex: stage, selection, timesteps } = this.#opened
    const { heldOut } = selection
    if (heldOut.length === 0) return
    const rounds = this.#opened.stage.kind === 'vae' ? 1 : Math.ceil(fewestHeldOutRows / heldOut.length)
    const total = rounds * heldOut.length
    const rows = Array.from({ length: total }, (_, place): DrawnRow => {
      const picture = heldOut[place % heldOut.length]!
      const at = { seed: job.seed, stage, step: Math.floor(place / heldOut.length), sample: picture.number }
      return {
        picture,
        caption: picture.captions[0],
        dropped: false,
        timestep: Math.floor(((place + 0.5) / total) * timesteps),
        noise: new RandomNumbers({ ...at, purpose: 'heldOut' }),
        posterior: undefined,
      }
    })
    for (const group of groupsOf(rows.map(({ picture }) => picture))) {
      for (let start = 0; start < group.length; start += this.#rows) {
        yield group.slice(start, start + this.#rows).map((place) => rows[place]!)
      }
    }
  }

  /** Everything that a stage of this data draws, until all that there is has come. */
  *#needed(): Generator<NeededRow> {
    const { selection, stage } = this.#opened
    for (const rows of this.#heldOutRows()) yield* rows
    const missing = new Map(selection.training.map((picture) => [picture, new Set(picture.captions)]))
    for (let rows = 1; rows <= stage.batchSize; rows++) {
      if (stage.batchSize % rows !== 0) continue
      const cut = this.withRows(rows)
      for (let place = 0; place < stage.steps * cut.microBatchesPerStep; place++) {
        if (missing.size === 0) return
        const step = Math.floor(place / cut.microBatchesPerStep)
        for (const row of cut.#needs(step, place % cut.microBatchesPerStep)) {
          yield row
          const captions = missing.get(row.picture)
          captions?.delete(row.caption)
          if (captions?.size === 0) missing.delete(row.picture)
        }
      }
    }
  }
}

/** Places of pictures of the same bucket, each in order. */
function groupsOf(pictures: readonly StagePicture[]): readonly (readonly number[])[] {
  const groups = new Map<string, number[]>()
  for (const [place, { bucket }] of pictures.entries()) {
    const key = `${bucket.width} x ${bucket.height}`
    const group = groups.get(key)
    if (group) group.push(place)
    else groups.set(key, [place])
  }
  return [...groups.values()]
}
