/** What crosses the border of the engine: requests, progress, results, and what is told of a model. Plain values only. */
import type { Priority } from './batch.ts'
import type { Costs } from './costs.ts'
import type { SchedulerName } from '../diffusion/solvers.ts'
import type { Bucket } from '../diffusion/buckets.ts'
import type { Precision } from '../models/precision.ts'
import type {
  ModelFolder,
  ModelMemory,
  TrainingChildMessage,
  TrainingLoad,
  TrainingParentMessage,
} from './training-protocol.ts'

/** One picture to make. A generation of n pictures is n of these, which differ in `id` and `seedIndex`. */
export interface ImageRequest {
  readonly id: string
  readonly model: string
  readonly prompt: string
  readonly negativePrompt: string
  /** Size of the finished picture in pixels; the engine makes it at the nearest bucket, and whoever asked scales it. */
  readonly width: number
  readonly height: number
  /** 0 … 2^53 − 1; the noise is `torch.randn` of a CPU generator with this seed. */
  readonly seed: number
  /** Which slice of that generator's (n, 4, h, w) draw is this picture's noise. */
  readonly seedIndex: number
  readonly steps: number
  readonly guidanceScale: number
  readonly scheduler: SchedulerName
  readonly cleanCaption: boolean
  readonly priority: Priority
  /** When the picture should be there, in milliseconds of Unix time. */
  readonly deadlineMs?: number | undefined
  readonly previews?: PreviewRequest | undefined
}

export interface PreviewRequest {
  /** After which steps, counted from 1. */
  readonly steps: readonly number[]
  /** The longer side at most, in pixels: latents are averaged down, by powers of two, until they fit. */
  readonly maxSide: number
}

export type ImageProgress =
  | { readonly phase: 'started'; readonly etaMs: number }
  | {
      readonly phase: 'denoising'
      readonly step: number
      readonly steps: number
      readonly etaMs: number
      /** Rows of the batch that the step was taken in. */
      readonly batchRows: number
    }
  | { readonly phase: 'preview'; readonly step: number; readonly picture: Picture }
  | { readonly phase: 'decoding'; readonly etaMs: number }

export interface Picture {
  readonly pixels: Uint8Array<ArrayBuffer> // (height, width, 3), RGB
  readonly width: number
  readonly height: number
}

/** What a picture used. */
export interface Receipt {
  readonly device: string
  /** Its share of the device's time, by row-tokens where it shared a call. */
  readonly deviceMs: number
  /** Rows times steps. */
  readonly rowSteps: number
  readonly meanBatchRows: number
  readonly maxBatchRows: number
  /** All of its text embeddings were there already. */
  readonly promptCached: boolean
}

export interface PhaseTimings {
  readonly waitMs: number
  readonly encodeMs: number
  readonly denoiseMs: number
  readonly decodeMs: number
  /** Time of the library's own work in the units of the three phases that this picture took part in. */
  readonly computeMs: number
}

/** The picture is as large as its bucket. */
export interface ImageResult extends Picture {
  /** Prompt tokens beyond the model's limit were dropped. */
  readonly promptTruncated: boolean
  readonly modelVersion: string
  readonly timings: PhaseTimings
  readonly receipt: Receipt
}

export interface ModelInfo {
  readonly name: string
  /** Changes whenever configuration or weights change. */
  readonly version: string
  /** Side of the model's square bucket in pixels. */
  readonly baseSize: number
  readonly buckets: readonly Bucket[]
  readonly defaultScheduler: SchedulerName
  readonly schedulers: readonly { readonly name: SchedulerName; readonly maxSteps: number }[]
  readonly maxPromptTokens: number
  /** Pixels along one side of a latent, and latents along one side of a patch. */
  readonly latentScale: number
  readonly patchSize: number
  /** Of its weights. */
  readonly sizeBytes: number
  /** `loaded` when some device holds it; an unloaded one is loaded by the first request for it. */
  readonly state: 'loaded' | 'unloaded'
}

export type PictureFailureCode = 'unknown_model' | 'device_failed' | 'generation_failed'

/** The request is wrong in a way that only the engine could see, or the engine could not carry it out. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: PictureFailureCode | 'training_failed' | 'deploy_failed' | 'export_failed'
  constructor(code: EngineError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** A device as it is configured: a provider and which of its devices or cores. */
export interface DeviceName {
  readonly provider: 'cpu' | 'cuda' | 'webgpu'
  /** `cuda:1` → 1 */
  readonly index?: number
  /** `cpu:0-3` → first and last core */
  readonly cores?: readonly [number, number]
}

/** What a device process needs to know to start. */
export interface DeviceOptions {
  readonly name: string
  readonly device: DeviceName
  /** The first is loaded at the start, the others when they are asked for. A device without any can train. */
  readonly models: readonly ModelFolder[]
  /** Converted weights and measured costs are kept here. */
  readonly cacheDir: string
  /** What the models compute in; float32 by default. */
  readonly precision?: Precision | undefined
  /** For weights and activations; undefined is no limit. */
  readonly memoryLimitBytes?: number | undefined
  /** Share of its time that a job gets even while requests wait, 0 … 0.9; with 0, the default, requests always go first. */
  readonly trainingShare?: number | undefined
}

export type ParentMessage =
  | { readonly type: 'start'; readonly options: DeviceOptions }
  | { readonly type: 'submit'; readonly request: ImageRequest }
  | { readonly type: 'cancel'; readonly id: string }
  | TrainingParentMessage

export type ChildMessage =
  | { readonly type: 'failed-to-start'; readonly message: string }
  /** What an operator should know, such as a conversion of weights that takes minutes. */
  | { readonly type: 'note'; readonly message: string }
  /** How a model will be run within the memory, in lines for people. */
  | { readonly type: 'plan'; readonly model: string; readonly lines: readonly string[] }
  | { readonly type: 'ready'; readonly models: readonly ModelInfo[] }
  /** A model was loaded or had to leave. */
  | { readonly type: 'models'; readonly models: readonly ModelInfo[] }
  /** What work costs, by model name; sent when it was measured and now and then as live work refines it. */
  | {
      readonly type: 'costs'
      readonly costs: Readonly<Record<string, Costs>>
      readonly memory: Readonly<Record<string, ModelMemory>>
    }
  /** What is left to do here, after a unit of work. */
  | { readonly type: 'load'; readonly load: DeviceLoad }
  | { readonly type: 'progress'; readonly id: string; readonly progress: ImageProgress }
  | { readonly type: 'succeeded'; readonly id: string; readonly result: ImageResult }
  | {
      readonly type: 'failed'
      readonly id: string
      readonly code: PictureFailureCode
      readonly message: string
    }
  | TrainingChildMessage

export interface DeviceLoad {
  /** Expected device time of all that waits and runs here. */
  readonly backlogMs: number
  /** Rows of the last denoising batch. */
  readonly batchRows: number
  readonly unitsOfWork: number
  /** Denoising calls so far, and the rows of all of them. */
  readonly denoisingCalls: number
  readonly denoisingRows: number
  /** Image tokens of all those rows. */
  readonly denoisingTokens: number
  readonly textEncodings: number
  readonly promptCacheHits: number
  readonly promptCacheBytes: number
  /** Device time of requests' units of work so far. */
  readonly servingMs: number
  readonly training: TrainingLoad
}
