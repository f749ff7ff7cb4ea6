/** A training job, resolved to the last number, and what it tells on its way. Plain values only: they cross process borders. */
import type { NoiseLossOptions } from './losses.ts'

/** In the order in which a model comes to be (Chen et al. 2023, arXiv 2310.00426, section 2.2); `vae` trains the autoencoder. */
export const stageKinds = ['vae', 'pixel', 'align', 'aesthetic'] as const
export type StageKind = (typeof stageKinds)[number]

export interface TrainingJob {
  readonly id: string
  /** All that the run writes lies here: plan.json, checkpoints/, samples/, exchange/. A folder that holds checkpoints is resumed. */
  readonly folder: string
  /** The checkpoint that it begins with, in the diffusers layout. */
  readonly base: string
  /** Latents, text embeddings and converted weights, by content. */
  readonly cacheDir: string
  /** The pictures: JSON Lines of `TrainingItem`, in the order that decides what the sampler draws. */
  readonly manifest: string
  /** Noise, timesteps, dropout and order derive from it, the step and the sample, and from nothing else. */
  readonly seed: number
  /** What the transformer begins with; the DiT's is a folder in the diffusers layout, or its `transformer` folder. */
  readonly start:
    | { readonly kind: 'base' }
    | { readonly kind: 'random' }
    | { readonly kind: 'dit'; readonly folder: string }
  readonly method: TrainingMethod
  readonly stages: readonly TrainingStage[]
  readonly samples: SamplePlan
  /** Optimiser steps between checkpoints; one is also made at the end of every stage. */
  readonly checkpointEvery: number
  /** Of those between stages, the last ones; stages' ends are kept. */
  readonly keepCheckpoints: number
  /** Share of the pictures that no stage trains on. */
  readonly heldOutShare: number
  /** A micro-step is made of as many rows as stay under this. */
  readonly maxMicroStepMs: number
}

export type TrainingMethod =
  | { readonly kind: 'full' }
  | {
      readonly kind: 'lora'
      readonly rank: number
      readonly alpha: number
      /** Ends of module names, such as `to_q`. */
      readonly targets: readonly string[]
    }

export interface TrainingStage {
  readonly kind: StageKind
  /** Side of the square bucket in pixels. */
  readonly resolution: number
  /** All buckets of that resolution, rather than the square one alone. */
  readonly multiAspect: boolean
  /** Optimiser steps, and pictures in each. */
  readonly steps: number
  readonly batchSize: number
  readonly learningRate: number
  readonly schedule: 'constant' | 'cosine'
  readonly warmupSteps: number
  readonly weightDecay: number
  /** Largest global norm of the gradients. */
  readonly gradientClip: number
  readonly emaDecay: number
  /** Share of the pictures whose caption is left out, so that guidance has something to lead away from. */
  readonly captionDropout: number
  readonly loss: NoiseLossOptions
  /** Of the `vae` stage. */
  readonly klWeight: number
  /** Of the `vae` stage: how much latents at half their size must decode to pictures at half theirs. */
  readonly equivarianceWeight: number
  /** Pictures of a lower score, or of none when this is given, are left out. */
  readonly minAestheticScore?: number | undefined
  /** What the transformer is told of a picture: `class` trains a DiT on labels, `none` leaves text out. */
  readonly condition: 'text' | 'class' | 'none'
  /** The text encoder is trained as well. */
  readonly trainTextEncoder: boolean
  /** Of the text encoder, as `learningRate` is of the rest; the same when undefined. */
  readonly textEncoderLearningRate?: number | undefined
  /** Block by block, which takes a third of the memory and half as long again. */
  readonly recompute: 'none' | 'blocks'
  readonly precision: 'float32' | 'float16'
}

/** Pictures of fixed prompts and seeds, from the averaged weights. */
export interface SamplePlan {
  /** Optimiser steps between them; they are also made at the end of every stage. */
  readonly every: number
  readonly prompts: readonly { readonly prompt: string; readonly seed: number }[]
  readonly steps: number
  readonly guidanceScale: number
}

/** One picture of a job's snapshot of its dataset. */
export interface TrainingItem {
  readonly id: string
  /** Absolute; decoded by sharp. */
  readonly file: string
  readonly sha256: string
  /** As stored, upright. */
  readonly width: number
  readonly height: number
  /** Several phrasings of the same; one is drawn for every epoch. Empty: pictures without text. */
  readonly captions: readonly string[]
  /** Name of its class. */
  readonly label?: string | undefined
  readonly aestheticScore?: number | undefined
}

export type TrainingEvent =
  | { readonly type: 'note'; readonly message: string }
  /** Pictures and texts that are encoded before a stage begins. */
  | { readonly type: 'preparing'; readonly stage: number; readonly done: number; readonly of: number }
  | {
      readonly type: 'stage_started'
      readonly stage: number
      readonly kind: StageKind
      readonly microBatch: number
    }
  | StepReport
  | SampleReport
  /** Relative to the job's folder. */
  | { readonly type: 'checkpoint'; readonly stage: number; readonly step: number; readonly folder: string }
  | StageReport

export interface SampleReport {
  readonly type: 'sample'
  readonly stage: number
  readonly step: number
  /** Of the plan's prompts. */
  readonly index: number
  readonly prompt: string
  readonly seed: number
  /** A WebP picture, relative to the job's folder. */
  readonly file: string
  readonly width: number
  readonly height: number
}

export interface StepReport {
  readonly type: 'step'
  readonly stage: number
  /** Optimiser steps of this stage so far. */
  readonly step: number
  readonly steps: number
  readonly loss: number
  readonly gradientNorm: number
  readonly learningRate: number
  /** Pictures per second of device time, and that time since the last step. */
  readonly imagesPerSecond: number
  readonly deviceMs: number
  readonly etaMs: number
}

export interface StageReport {
  readonly type: 'stage_finished'
  readonly stage: number
  readonly kind: StageKind
  readonly steps: number
  readonly pictures: number
  /** On the held-out pictures with fixed noise, by the averaged weights; undefined when there are none. */
  readonly heldOut:
    { readonly lossBefore: number; readonly lossAfter: number; readonly pictures: number } | undefined
  /** Largest change of a trained tensor, by its norm: ‖after − before‖ / ‖before‖. */
  readonly largestChange: { readonly parameter: string; readonly relative: number }
  readonly deviceMs: number
}

export type TrainingOutcome =
  | { readonly kind: 'succeeded' }
  /** Saved, to be gone on with. */
  | { readonly kind: 'paused' }
  | { readonly kind: 'cancelled' }
