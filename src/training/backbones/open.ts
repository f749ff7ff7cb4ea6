/** Which backbone a stage trains, and what it begins with. */
import type { Component } from '../../weights/checkpoint.ts'
import { TrainingError } from '../errors.ts'
import type { TrainingJob } from '../job.ts'
import { openDitFolder, type ModelParts } from '../model-parts.ts'
import type { Backbone, BackboneOptions } from './backbone.ts'
import { ditBackbone } from './dit.ts'
import { pixartBackbone } from './pixart.ts'
import { vaeBackbone } from './vae.ts'

/**
 * @param current the transformer that the stage begins with, undefined when it is random
 * @throws {TrainingError | WeightsError | ModelConfigError} in one line, what does not fit
 */
export function openBackbone(options: BackboneOptions, current: Component | undefined): Backbone {
  const { job, stage } = options
  const isWhole = stage.kind !== 'vae' && stage.condition !== 'class'
  if (job.method.kind === 'lora' && !isWhole)
    throw new TrainingError(
      `method 'lora': expected stages that train PixArt-α, got ${stage.kind} on ${stage.condition}`,
    )
  if (stage.kind === 'vae') return vaeBackbone(options)
  return stage.condition === 'class' ? ditBackbone(options, current) : pixartBackbone(options, current)
}

/** @returns undefined when it has random weights */
export async function currentTransformer(
  job: TrainingJob,
  parts: ModelParts,
): Promise<Component | undefined> {
  if (parts.trained.transformer) return parts.components.transformer
  switch (job.start.kind) {
    case 'base':
      return parts.components.transformer
    case 'random':
      return undefined
    case 'dit':
      return openDitFolder(job.start.folder)
  }
}
