/** A generation, and what its pictures took and used, as the contract has them. */
import type { Config } from '../../config.ts'
import { co2Grams } from '../../energy/footprint.ts'
import {
  energyOf,
  isUpscaled,
  type Generation,
  type GenerationReceipt,
  type GenerationStatus,
  type ImageRecord,
  type SucceededGeneration,
} from '../../generation/generation.ts'
import { sizeText } from '../../generation/images.ts'
import type { GenerationParameters } from '../../generation/parameters.ts'
import type {
  SchemaGeneration,
  SchemaGenerationImage,
  SchemaImageParameters,
  SchemaGenerationTimings,
  SchemaReceipt,
} from '../../sdk/schema.ts'
import type { Addressed } from '../links.ts'
import { roundMs, type RouteDependencies } from './dependencies.ts'

/** @param generation where it stands counts only where the service told it, so not in lists */
export async function describeGeneration(
  generation: Generation | GenerationStatus,
  request: Addressed,
  { links, config }: Pick<RouteDependencies, 'links' | 'config'>,
): Promise<SchemaGeneration> {
  const { parameters } = generation
  const live: Partial<GenerationStatus> = generation
  const succeeded = generation.state === 'succeeded' ? generation : undefined
  const images = (succeeded?.images ?? []).map(async (image) =>
    describeGenerationImage(image, await links.image(request, image)),
  )
  return {
    id: generation.id,
    object: 'generation',
    state: generation.state,
    created_at: generation.createdAt.toISOString(),
    started_at: 'startedAt' in generation ? (generation.startedAt?.toISOString() ?? null) : null,
    finished_at: 'finishedAt' in generation ? generation.finishedAt.toISOString() : null,
    queue_position: live.queuePosition ?? null,
    progress: live.progress ? { step: live.progress.step, steps: live.progress.steps } : null,
    eta_seconds: live.etaSeconds ?? null,
    attempt: generation.attempt,
    priority: generation.priority,
    deadline: generation.deadline?.toISOString() ?? null,
    preview_steps: [...generation.previewSteps],
    user: generation.user ?? null,
    model: parameters.model,
    model_version: succeeded?.modelVersion ?? null,
    parameters: describeParameters(parameters),
    images: await Promise.all(images),
    timings: succeeded ? describeTimings(succeeded.timings) : null,
    receipt: succeeded?.receipt ? describeReceipt(succeeded.receipt, config) : null,
    error: generation.state === 'failed' ? { ...generation.error } : null,
  }
}

/** @returns a body that asks for the same pictures again */
export function describeParameters(
  parameters: GenerationParameters,
  { n = parameters.count, seedIndex = parameters.seedIndex }: { n?: number; seedIndex?: number } = {},
): SchemaImageParameters {
  return {
    model: parameters.model,
    prompt: parameters.prompt,
    negative_prompt: parameters.negativePrompt,
    size: sizeText(parameters),
    n,
    seed: parameters.seed,
    seed_index: seedIndex,
    steps: parameters.steps,
    guidance_scale: parameters.guidanceScale,
    scheduler: parameters.scheduler,
    clean_caption: parameters.cleanCaption,
    output_format: parameters.format,
    output_compression: parameters.compression,
  }
}

/** At which size the model made a picture, and whether it was enlarged to what was asked for. */
export const describeOrigin = (
  image: Pick<ImageRecord, 'bucket' | 'width' | 'height'>,
): { generated_size: string; upscaled: boolean } => ({
  generated_size: sizeText(image.bucket),
  upscaled: isUpscaled(image),
})

function describeGenerationImage(image: ImageRecord, url: string): SchemaGenerationImage {
  return {
    id: image.id,
    index: image.index,
    url,
    seed: image.seed,
    seed_index: image.seedIndex,
    width: image.width,
    height: image.height,
    ...describeOrigin(image),
    output_format: image.format,
    size_bytes: image.sizeBytes,
    prompt_truncated: image.promptTruncated,
  }
}

export function describeReceipt(
  { deviceMs, energy, ...receipt }: GenerationReceipt,
  { co2GramsPerKwh }: Pick<Config, 'co2GramsPerKwh'>,
): SchemaReceipt {
  return {
    device_seconds: deviceMs / 1000,
    row_steps: receipt.rowSteps,
    batch_rows_mean: receipt.meanBatchRows,
    batch_rows_max: receipt.maxBatchRows,
    prompt_cached: receipt.promptCached,
    devices: [...receipt.devices],
    energy_wh: energy ? energy.joules / 3600 : null,
    co2_grams: energy ? co2Grams(energy.joules, co2GramsPerKwh) : null,
    energy_source: energy?.source ?? null,
  }
}

/** Of one picture. */
export const describeImageReceipt = (
  image: Pick<ImageRecord, 'receipt' | 'joules' | 'energySource'>,
  config: Pick<Config, 'co2GramsPerKwh'>,
): SchemaReceipt | null =>
  image.receipt
    ? describeReceipt(
        { ...image.receipt, devices: [image.receipt.device], energy: energyOf([image]) },
        config,
      )
    : null

function describeTimings(timings: SucceededGeneration['timings']): SchemaGenerationTimings {
  return {
    queued_ms: roundMs(timings.queuedMs),
    encode_ms: roundMs(timings.encodeMs),
    denoise_ms: roundMs(timings.denoiseMs),
    decode_ms: roundMs(timings.decodeMs),
    total_ms: roundMs(timings.totalMs),
  }
}
