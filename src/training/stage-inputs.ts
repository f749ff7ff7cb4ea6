/** What a stage is made of before it is trained: its models, its pictures, and what ties the two together. */
import { parseSchedulerConfig, type SchedulerConfig } from '../diffusion/scheduler-config.ts'
import { readDitConfig } from '../models/dit.ts'
import { readPixArtConfig } from '../models/pixart.ts'
import { readVaeConfig, vaeDownsampling } from '../models/vae.ts'
import { openTokenizer, type Tokenizer } from '../text/tokenizer.ts'
import type { Component } from '../weights/checkpoint.ts'
import type { Backbone } from './backbones/backbone.ts'
import { isDit } from './backbones/dit.ts'
import { currentTransformer, openBackbone } from './backbones/open.ts'
import type { TrainedComponents } from './checkpoint.ts'
import type { BatchLayout } from './data/micro-batch.ts'
import { StageData } from './data/stage-data.ts'
import { diffusionProcess } from './diffusion-process.ts'
import { Encoders } from './encoders.ts'
import type { TrainingDevice } from './host.ts'
import type { TrainingJob, TrainingStage } from './job.ts'
import { openModelParts, type ModelParts } from './model-parts.ts'

export interface StageInputs {
  readonly job: TrainingJob
  readonly index: number
  readonly stage: TrainingStage
  readonly parts: ModelParts
  readonly scheduler: SchedulerConfig
  readonly backbone: Backbone
  /** In micro-batches of one row. */
  readonly data: StageData
  readonly encoders: Encoders
  readonly tokenizer: Tokenizer
}

/**
 * @param inherited what earlier stages have trained
 * @throws {TrainingError | TrainingDataError | WeightsError | ModelConfigError} what does not fit
 */
export async function openStageInputs(
  job: TrainingJob,
  index: number,
  inherited: TrainedComponents,
  host: TrainingDevice,
): Promise<StageInputs> {
  const stage = job.stages[index]!
  const parts = await openModelParts(job.base, job.folder, inherited)
  const scheduler = parseSchedulerConfig(parts.base.scheduler.config)
  const process = diffusionProcess(scheduler)
  const encoders = new Encoders(parts, job.cacheDir, host)
  const tokenizer = await openTokenizer(parts.base.tokenizer.folder)
  const current = stage.kind === 'vae' ? undefined : await currentTransformer(job, parts)
  const data = await StageData.open({
    job,
    stageIndex: index,
    rows: 1,
    layout: layoutOf(stage, parts, current),
    encode: encoders,
    versions: {
      vae: parts.components.vae.fingerprint,
      text: parts.components.text_encoder.fingerprint,
    },
    tokenizer,
    process,
  })
  const backbone = openBackbone({ job, stage, parts, process, classes: data.classes }, current)
  return { job, index, stage, parts, scheduler, backbone, data, encoders, tokenizer }
}

function layoutOf(
  { condition }: TrainingStage,
  { base, components }: ModelParts,
  current: Component | undefined,
): BatchLayout {
  const isPixart = current !== undefined && !isDit(current)
  const pixart = readPixArtConfig(isPixart ? current.config : base.transformer.config)
  const grid =
    condition === 'class' && current !== undefined && isDit(current) ? readDitConfig(current.config) : pixart
  const vae = readVaeConfig(components.vae.config)
  return {
    patchSize: grid.patchSize,
    latentChannels: vae.latentChannels,
    latentScale: vaeDownsampling(vae),
    scalingFactor: vae.scalingFactor,
    baseSize: grid.sampleSize / grid.patchSize,
    interpolationScale: grid.interpolationScale,
    captionWidth: pixart.captionWidth,
    microConditioned: condition !== 'class' && pixart.microConditioned,
  }
}
