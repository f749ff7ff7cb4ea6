/**
 * What a stage is trained with where a job says nothing: the recipe of PixArt-α (Chen et al. 2023, arXiv 2310.00426, section 3.1
 * and the published training configurations), with steps and batches for thousands of pictures on one machine in place of
 * millions on sixty-four.
 */
import type { StageKind, TrainingMethod, TrainingStage } from './job.ts'
import { defaultTargets } from './lora.ts'

interface KindDefaults {
  readonly steps: number
  readonly batchSize: number
  /** Of all weights; a LoRA's is `loraLearningRate`. */
  readonly learningRate: number
  readonly weightDecay: number
  readonly gradientClip: number
}

/** AdamW at 2e-5, decay 0.03, clipped at 0.01: the same for every stage of the paper. A hundredth of its steps. */
const paper = { batchSize: 16, learningRate: 2e-5, weightDecay: 0.03, gradientClip: 0.01 }

const kinds: Readonly<Record<StageKind, KindDefaults>> = {
  // Rombach et al. 2022 (arXiv 2112.10752): 4.5e-6 for each picture of the batch.
  vae: { steps: 2_000, batchSize: 8, learningRate: 8 * 4.5e-6, weightDecay: 0, gradientClip: 1 },
  pixel: { steps: 3_000, ...paper },
  align: { steps: 1_500, ...paper },
  aesthetic: { steps: 1_000, ...paper },
}

/** Adapters begin at nothing and have few weights (Hu et al. 2021, arXiv 2106.09685, use 1e-4 to 2e-4). */
const loraLearningRate = 1e-4

/** The paper's, over its hundreds of thousands of steps. */
const [publishedWarmup, publishedEma] = [1_000, 0.9999]

/** Latent diffusion's weight of the VAE's divergence. */
export const defaultKlWeight = 1e-6
export const defaultCaptionDropout = 0.1

/** Side of the square that the first stages see in the paper, in pixels. */
const earlyResolution = 256
/** The paper mixes aspect ratios from here on. */
const multiAspectFrom = 1024

/** What decides the defaults, of a model. */
export interface TrainedModel {
  /** Side of its square bucket in pixels. */
  readonly baseSize: number
  /** Of its transformer. */
  readonly parameters: number
}

export type StageWishes = { readonly [K in keyof TrainingStage]?: TrainingStage[K] | undefined } & {
  readonly kind: StageKind
}

/** From here on a job is a LoRA unless it says otherwise, and goes block by block: weights, moments and averages of all take 24 bytes each. */
const largeParameters = 100e6
export const isLarge = ({ parameters }: Pick<TrainedModel, 'parameters'>): boolean =>
  parameters >= largeParameters

export const defaultLora = { rank: 16, targets: defaultTargets } as const

/** Every number of a stage: what is asked for, else the default of its kind. */
export function completeStage(
  wishes: StageWishes,
  model: TrainedModel,
  method: TrainingMethod['kind'],
): TrainingStage {
  const { kind } = wishes
  const own = kinds[kind]
  const resolution =
    wishes.resolution ?? (kind === 'aesthetic' ? model.baseSize : Math.min(earlyResolution, model.baseSize))
  const steps = wishes.steps ?? own.steps
  return {
    kind,
    resolution,
    multiAspect: wishes.multiAspect ?? (kind === 'aesthetic' && resolution >= multiAspectFrom),
    steps,
    batchSize: wishes.batchSize ?? own.batchSize,
    learningRate: wishes.learningRate ?? (method === 'lora' ? loraLearningRate : own.learningRate),
    schedule: wishes.schedule ?? 'constant',
    warmupSteps: wishes.warmupSteps ?? Math.min(publishedWarmup, Math.floor(steps / 20)),
    weightDecay: wishes.weightDecay ?? (method === 'lora' ? 0 : own.weightDecay),
    gradientClip: wishes.gradientClip ?? own.gradientClip,
    // Over a tenth of the steps: the paper's 10,000 would still be mostly what a short stage began with.
    emaDecay: wishes.emaDecay ?? Math.min(publishedEma, Math.max(0, 1 - 10 / steps)),
    captionDropout: wishes.captionDropout ?? defaultCaptionDropout,
    loss: wishes.loss ?? { kind: 'variational' },
    klWeight: wishes.klWeight ?? defaultKlWeight,
    equivarianceWeight: wishes.equivarianceWeight ?? 0,
    minAestheticScore: wishes.minAestheticScore,
    condition: wishes.condition ?? 'text',
    trainTextEncoder: wishes.trainTextEncoder ?? false,
    textEncoderLearningRate: wishes.textEncoderLearningRate,
    recompute: wishes.recompute ?? (isLarge(model) && kind !== 'vae' ? 'blocks' : 'none'),
    precision: wishes.precision ?? 'float32',
  }
}
