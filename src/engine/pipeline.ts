/**
 * One model's way from prompt to pixels, unit by unit: encode, step, preview, decode.
 *
 * Legend: B prompts or pictures, T text tokens, D text width, C latent channels, h × w latent pixels, H × W pixels.
 */
import { nearestBucket, type Bucket } from '../diffusion/buckets.ts'
import { estimateClean, halveLatents } from '../diffusion/clean-estimate.ts'
import { guide, takeNoisePrediction } from '../diffusion/guidance.ts'
import { toNoisePrediction } from '../diffusion/prediction.ts'
import { gridCoordinates, unpatchify, type LatentLayout } from '../diffusion/patches.ts'
import { toPixels } from '../diffusion/pixels.ts'
import { createSolver, type Solver } from '../diffusion/solvers.ts'
import { preparePrompt } from '../text/prompt.ts'
import type { Tokens } from '../text/tokenizer.ts'
import {
  isGuided,
  startDenoising,
  type Denoising,
  type NoiseSource,
  type TextConditions,
  type Timing,
} from './denoising.ts'
import { maxPromptTokens } from '../models/components.ts'
import type { Model, Stage } from './model.ts'
import { ByteLru } from '../byte-lru.ts'
import { keyOf, PromptCache } from './prompt-cache.ts'
import type { ImageRequest, Picture } from './protocol.ts'
import { RowBatch, Scratch } from './row-batch.ts'
import type { Tensor } from './session.ts'

/** What of a request decides the latents at a given bucket and noise. */
export type DenoisingRequest = Pick<
  ImageRequest,
  'prompt' | 'negativePrompt' | 'cleanCaption' | 'steps' | 'guidanceScale' | 'scheduler'
>

/** All that can be known of a request before anything is computed. */
export interface Prepared {
  readonly bucket: Bucket
  readonly layout: LatentLayout
  readonly solver: Solver
  /** One row's text each, in the order of the rows. */
  readonly texts: readonly Tokens[]
}

export interface CacheLimits {
  /** What text embeddings may take that are kept for the prompts to come. */
  readonly promptBytes: number
  /** What may be kept of the keys and values that cross-attention makes of the texts at work. */
  readonly contextBytes: number
}

type Size = Pick<Picture, 'width' | 'height'>

export class Pipeline {
  readonly model: Model
  /** The model's name, unless another pipeline of that name is there as well: no two share calls or costs. */
  readonly key: string
  readonly prompts: PromptCache
  /** The batch of the last step: most steps are taken by the same requests as the one before. */
  #batch: RowBatch | undefined
  #scratch = new Scratch()
  /** What the transformer made of texts: large, quick to compute, and the same at every step. */
  readonly #contexts: ByteLru<TextConditions, Float32Array>

  constructor(
    model: Model,
    { promptBytes, contextBytes }: CacheLimits,
    key: string = model.description.name,
  ) {
    this.model = model
    this.key = key
    this.prompts = new PromptCache(promptBytes)
    this.#contexts = new ByteLru(contextBytes, (_text, context) => context.byteLength)
  }

  /**
   * Loads the model, and encodes what most requests need: the empty negative prompt.
   * @param stage what is wanted first
   */
  async load(stage?: Stage): Promise<void> {
    await this.model.load(stage)
    const empty = this.model.tokenizer.encode('', maxPromptTokens)
    if (this.prompts.has(empty.ids)) return
    const hidden = await this.model.encodeOnce(empty)
    this.prompts.pin(empty.ids, { hidden, mask: empty.mask })
  }

  /** Makes a stage of the loaded model ready, at the cost of those that there is no room for beside it. */
  async makeReady(stage: Stage): Promise<void> {
    this.#makeRoom(stage)
    await this.model.prepare(stage)
  }

  /** What was begun can go on when the model is loaded again. */
  async unload(): Promise<void> {
    this.#forgetBatch()
    await this.model.unload()
  }

  /** Where the transformer leaves for the text encoder, what its batches lie in leaves too. */
  #makeRoom(stage: Stage): void {
    if (stage === 'encode' && this.model.plan.textEncoder === 'leaves') this.#forgetBatch()
  }

  #forgetBatch(): void {
    this.#batch = undefined
    this.#scratch = new Scratch()
  }

  /** Needs no loaded model. @throws {SolverError} when the scheduler cannot take that many steps */
  prepare(request: DenoisingRequest & Size): Prepared {
    return this.prepareAt(nearestBucket(this.model.description.buckets, request), request)
  }

  /** The same at a given bucket. */
  prepareAt(bucket: Bucket, request: DenoisingRequest): Prepared {
    const { prompt, negativePrompt, guidanceScale } = request
    const prompts = isGuided(guidanceScale) ? [negativePrompt, prompt] : [prompt]
    const texts = prompts.map((text) =>
      this.model.tokenizer.encode(preparePrompt(text, request), maxPromptTokens),
    )
    const solver = createSolver(request.scheduler, this.model.schedulerConfig, request.steps)
    return { bucket, layout: this.#layoutOf(bucket), solver, texts }
  }

  /** Prompts of this request whose embeddings are not kept. */
  missing({ texts }: Prepared): readonly Tokens[] {
    return texts.filter(({ ids }) => !this.prompts.has(ids))
  }

  /**
   * Encodes what is missing for all of these in one call, each distinct text once.
   * @returns each one's rows
   */
  async encode(prepared: readonly Prepared[]): Promise<readonly (readonly TextConditions[])[]> {
    const known = new Map<string, TextConditions>()
    const fresh = new Map<string, Tokens>()
    for (const text of prepared.flatMap(({ texts }) => texts)) {
      const key = keyOf(text.ids)
      const kept = this.prompts.get(text.ids)
      if (kept) known.set(key, kept)
      else fresh.set(key, text)
    }
    if (fresh.size > 0) {
      const texts = [...fresh.values()]
      const ids = new Int32Array(texts.length * maxPromptTokens) // (B, T)
      const mask = new Float32Array(ids.length) // (B, T)
      for (const [index, text] of texts.entries()) {
        ids.set(text.ids, index * maxPromptTokens)
        mask.set(text.mask, index * maxPromptTokens)
      }
      this.#makeRoom('encode')
      const hidden = await this.model.encodeText(ids, mask, texts.length) // (B, T, D)
      const length = hidden.length / texts.length
      for (const [index, text] of texts.entries()) {
        // A copy of its own: a view would keep the embeddings of its whole batch.
        const conditions = { hidden: hidden.slice(index * length, (index + 1) * length), mask: text.mask }
        known.set(keyOf(text.ids), conditions)
        this.prompts.set(text.ids, conditions)
      }
    }
    return prepared.map(({ texts }) => texts.map(({ ids }) => known.get(keyOf(ids))!))
  }

  /** Draws the first noise: the request is ready for its first step. */
  begin(
    prepared: Prepared,
    rows: readonly TextConditions[],
    { guidanceScale }: Pick<ImageRequest, 'guidanceScale'>,
    noise: NoiseSource,
  ): Denoising {
    const { sampleSize, patchSize, interpolationScale } = this.model.pixart
    const { bucket, layout, solver, texts } = prepared
    return startDenoising({
      bucket,
      layout,
      coordinates: gridCoordinates({ ...layout, baseSize: sampleSize / patchSize, interpolationScale }),
      solver,
      guidanceScale,
      rows,
      promptTruncated: texts.some(({ truncated }) => truncated),
      noise,
    })
  }

  /** Moves every one of these on by one step. They have the same number of image tokens; all else may differ. */
  async step(denoisings: readonly Denoising[]): Promise<void> {
    const batch = await this.#batchOf(denoisings)
    batch.writeInputs()
    await this.model.predictNoise(batch.inputs, batch.output)
    for (const [index, denoising] of denoisings.entries()) {
      const { prediction, guidanceScale, solver, step } = denoising
      const [first, second] = batch.outputsOf(index)
      if (second) guide(second, first, guidanceScale, batch.predictionLayout, prediction)
      else takeNoisePrediction(first, batch.predictionLayout, prediction)
      const input = batch.inputOf(index)
      toNoisePrediction(this.model.schedulerConfig.predictionType, solver, step, input, prediction)
      if (denoising.cleanEstimate) {
        estimateClean(
          this.model.schedule,
          solver.timesteps[step]!,
          input,
          prediction,
          denoising.cleanEstimate,
        )
      }
      if (solver.drawsNoise(step)) denoising.drawNoise()
      solver.step(step, denoising.latents, prediction, denoising.history)
      denoising.step += 1
    }
  }

  async #batchOf(denoisings: readonly Denoising[]): Promise<RowBatch> {
    if (this.#batch?.holds(denoisings)) return this.#batch
    this.#batch = undefined
    const batch = new RowBatch(denoisings, this.model.pixart, this.#scratch)
    let row = 0
    for (const denoising of denoisings) {
      denoising.timing ??= await this.#timingOf(denoising)
      for (const text of denoising.rows) batch.writeContext(row++, await this.#contextOf(text))
    }
    this.#batch = batch
    return batch
  }

  #timingOf({ solver: { timesteps }, bucket: { width, height } }: Denoising): Promise<Timing> {
    const steps = timesteps.length
    return this.model.timing(timesteps, {
      resolution: Float32Array.from({ length: 2 * steps }, (_, i) => (i % 2 === 0 ? height : width)),
      aspectRatio: new Float32Array(steps).fill(height / width),
    })
  }

  async #contextOf(text: TextConditions): Promise<Float32Array> {
    const kept = this.#contexts.get(text)
    if (kept) return kept
    const context = await this.model.context(text.hidden, text.mask.length)
    this.#contexts.set(text, context)
    return context
  }

  /** The finished latents as the decoder's first part takes them. */
  decoderInput(denoising: Denoising): Tensor<'float32'> {
    const { layout } = denoising
    return this.model.decoderInput(this.#unscaled(this.latentsOf(denoising)), { ...layout, batch: 1 })
  }

  /**
   * One part of the decodes of pictures of one size.
   * @param hidden what each one's last part gave
   */
  async decodePart(
    part: number,
    hidden: readonly Tensor<'float32'>[],
  ): Promise<readonly Tensor<'float32'>[]> {
    return unstack(await this.model.decodePart(part, stack(hidden)), hidden.length)
  }

  /**
   * @param image what the last part of the decode gave (1, 3, H, W)
   * @returns (H, W, 3), at the bucket's size
   */
  finishPixels({ data }: Tensor<'float32'>, { bucket }: Denoising): Uint8Array<ArrayBuffer> {
    return toPixels(data, bucket)
  }

  /** What the last step says the picture will be, no larger than `maxSide`. */
  async preview({ cleanEstimate, layout }: Denoising, maxSide: number): Promise<Picture> {
    if (!cleanEstimate) throw new Error('no preview was asked for')
    const { latentScale, pixart } = this.model
    let { height, width } = layout
    let latents: Float32Array = new Float32Array(cleanEstimate.length)
    unpatchify(cleanEstimate, layout, latents) // (C, h, w)
    while (Math.max(height, width) * latentScale > maxSide && Math.min(height, width) >= 2) {
      ;({ latents, height, width } = halveLatents(latents, { channels: pixart.inChannels, height, width }))
    }
    const image = await this.model.decode(this.#unscaled(latents), { batch: 1, height, width })
    const made = { width: width * latentScale, height: height * latentScale }
    return { pixels: toPixels(image, made), ...made }
  }

  /** @returns (C, h, w), still multiplied by the VAE's scaling factor */
  latentsOf({ layout, latents }: Denoising): Float32Array<ArrayBuffer> {
    const out = new Float32Array(latents.length)
    unpatchify(latents, layout, out)
    return out
  }

  /** Divides by the VAE's scaling factor, in place. */
  #unscaled(latents: Float32Array): Float32Array {
    const { scalingFactor } = this.model.vae
    for (let i = 0; i < latents.length; i++) latents[i] = latents[i]! / scalingFactor
    return latents
  }

  #layoutOf({ width, height }: Bucket): LatentLayout {
    const { pixart, latentScale } = this.model
    return {
      channels: pixart.inChannels,
      height: height / latentScale,
      width: width / latentScale,
      patchSize: pixart.patchSize,
    }
  }
}

/** B tensors (1, …) → one (B, …); one alone is passed on as it is. */
function stack(tensors: readonly Tensor<'float32'>[]): Tensor<'float32'> {
  const [first] = tensors
  if (!first) throw new RangeError('expected at least one tensor, got none')
  if (tensors.length === 1) return first
  const data = new Float32Array(first.data.length * tensors.length)
  for (const [index, tensor] of tensors.entries()) data.set(tensor.data, index * first.data.length)
  return { dtype: 'float32', data, dims: [tensors.length, ...first.dims.slice(1)] }
}

/** One (B, …) → B tensors (1, …), as views. */
function unstack({ data, dims }: Tensor<'float32'>, count: number): readonly Tensor<'float32'>[] {
  const length = data.length / count
  return Array.from({ length: count }, (_, index) => ({
    dtype: 'float32',
    data: count === 1 ? data : data.subarray(index * length, (index + 1) * length),
    dims: [1, ...dims.slice(1)],
  }))
}
