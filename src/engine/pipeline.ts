/**
 * One model's way from prompt to pixels: encode, step, decode.
 *
 * Legend: N image tokens, P numbers of latents in a token, T text tokens, D text width, C latent channels,
 * h × w latent pixels, H × W pixels.
 */
import { nearestBucket, type Bucket } from '../diffusion/buckets.ts'
import { guide, takeNoisePrediction } from '../diffusion/guidance.ts'
import { gridCoordinates, unpatchify, type LatentLayout } from '../diffusion/patches.ts'
import { resizeAndCrop, toPixels } from '../diffusion/resize.ts'
import { createSolver } from '../diffusion/solvers.ts'
import { preparePrompt } from '../text/prompt.ts'
import {
  isGuided,
  startDenoising,
  type Denoising,
  type NoiseSource,
  type TextConditions,
} from './denoising.ts'
import { maxPromptTokens, type LoadedModel } from './loaded-model.ts'
import { PromptCache } from './prompt-cache.ts'
import type { ImageRequest, ModelInfo } from './protocol.ts'
import { RowBatch } from './row-batch.ts'

/** What of a request decides the latents at a given bucket and noise. */
export type DenoisingRequest = Pick<
  ImageRequest,
  'prompt' | 'negativePrompt' | 'cleanCaption' | 'steps' | 'guidanceScale' | 'scheduler'
>

/** Some hundred prompts of the largest text encoder (120 × 4096 numbers each). */
const promptCacheBytes = 256 * 2 ** 20

export class Pipeline {
  readonly model: LoadedModel
  readonly #prompts = new PromptCache(promptCacheBytes)
  /** The batch of the last step: most steps are taken by the same requests as the one before. */
  #batch: RowBatch | undefined

  constructor(model: LoadedModel) {
    this.model = model
  }

  get info(): ModelInfo {
    return this.model.info
  }

  /** Encodes the prompts and draws the first noise: the request is ready for its first step. */
  async begin(request: ImageRequest): Promise<Denoising> {
    const bucket = nearestBucket(this.info.buckets, request)
    return this.beginAt(bucket, request, { kind: 'seed', seed: request.seed, index: request.seedIndex })
  }

  /** The same at a given bucket and from given noise. */
  async beginAt(bucket: Bucket, request: DenoisingRequest, noise: NoiseSource): Promise<Denoising> {
    const { prompt, negativePrompt, guidanceScale } = request
    const { pixart, schedulerConfig } = this.model
    const texts = isGuided(guidanceScale) ? [negativePrompt, prompt] : [prompt]
    const layout = this.layoutOf(bucket)
    const rows: TextConditions[] = []
    let promptTruncated = false
    for (const text of texts) {
      const { ids, mask, truncated } = this.model.tokenizer.encode(
        preparePrompt(text, request),
        maxPromptTokens,
      )
      rows.push(await this.#encode(ids, mask))
      promptTruncated ||= truncated
    }
    return startDenoising({
      bucket,
      layout,
      coordinates: gridCoordinates({
        ...layout,
        baseSize: pixart.sampleSize / pixart.patchSize,
        interpolationScale: pixart.interpolationScale,
      }),
      solver: createSolver(request.scheduler, schedulerConfig, request.steps),
      guidanceScale,
      rows,
      promptTruncated,
      noise,
    })
  }

  /** Moves every one of these on by one step. They have the same number of image tokens; all else may differ. */
  async step(denoisings: readonly Denoising[]): Promise<void> {
    if (!this.#batch?.holds(denoisings)) this.#batch = new RowBatch(denoisings, this.model.pixart)
    const batch = this.#batch
    batch.writeInputs()
    await this.model.predictNoise(batch.inputs, batch.output)
    for (const [index, denoising] of denoisings.entries()) {
      const { prediction, guidanceScale, solver, step } = denoising
      const [first, second] = batch.outputsOf(index)
      if (second) guide(second, first, guidanceScale, batch.predictionLayout, prediction)
      else takeNoisePrediction(first, batch.predictionLayout, prediction)
      if (solver.drawsNoise(step)) denoising.drawNoise()
      solver.step(step, denoising.latents, prediction, denoising.history)
      denoising.step += 1
    }
  }

  /** @returns the picture at the wanted size, (height, width, 3) RGB */
  async decodePixels(
    denoising: Denoising,
    size: { readonly width: number; readonly height: number },
  ): Promise<Uint8Array<ArrayBuffer>> {
    const latents = this.latentsOf(denoising)
    const { scalingFactor } = this.model.vae
    for (let i = 0; i < latents.length; i++) latents[i] = latents[i]! / scalingFactor
    const image = await this.model.decode(latents, { ...denoising.layout, batch: 1 }) // (3, H, W)
    return toPixels(resizeAndCrop(image, denoising.bucket, size), size)
  }

  /** @returns (C, h, w), still multiplied by the VAE's scaling factor */
  latentsOf({ layout, latents }: Denoising): Float32Array<ArrayBuffer> {
    const out = new Float32Array(latents.length)
    unpatchify(latents, layout, out)
    return out
  }

  layoutOf({ width, height }: Bucket): LatentLayout {
    const { pixart, latentScale } = this.model
    return {
      channels: pixart.inChannels,
      height: height / latentScale,
      width: width / latentScale,
      patchSize: pixart.patchSize,
    }
  }

  async #encode(ids: Int32Array, mask: Float32Array): Promise<TextConditions> {
    const known = this.#prompts.get(ids)
    if (known) return known
    const fresh = { hidden: await this.model.encodeText(ids, mask, 1), mask }
    this.#prompts.set(ids, fresh)
    return fresh
  }
}
