/** What crosses the border of the engine: requests, progress, results, and what is told of a model. Plain values only. */
import type { SchedulerName } from '../diffusion/solvers.ts'
import type { Bucket } from '../diffusion/buckets.ts'

/** One picture to make. A generation of n pictures is n of these, which differ in `id` and `seedIndex`. */
export interface ImageRequest {
  readonly id: string
  readonly model: string
  readonly prompt: string
  readonly negativePrompt: string
  /** Size of the finished picture in pixels; the engine denoises at the nearest bucket. */
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
}

export type ImageProgress =
  | { readonly phase: 'encoding' }
  | { readonly phase: 'denoising'; readonly step: number; readonly steps: number }
  | { readonly phase: 'decoding' }

export interface PhaseTimings {
  readonly waitMs: number
  readonly encodeMs: number
  readonly denoiseMs: number
  readonly decodeMs: number
  /** Time of the library's own work in the units of the three phases that this picture took part in. */
  readonly computeMs: number
}

export interface ImageResult {
  readonly pixels: Uint8Array<ArrayBuffer> // (height, width, 3), RGB
  readonly width: number
  readonly height: number
  readonly bucket: Bucket
  /** Prompt tokens beyond the model's limit were dropped. */
  readonly promptTruncated: boolean
  readonly modelVersion: string
  readonly timings: PhaseTimings
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
}

/** The request is wrong in a way that only the engine could see, or the engine could not carry it out. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: 'unknown_model' | 'device_failed' | 'generation_failed'
  constructor(code: EngineError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** What a device process needs to know to start. */
export interface DeviceOptions {
  readonly models: readonly { readonly name: string; readonly folder: string }[]
  readonly provider: 'cpu' | 'cuda' | 'webgpu'
  /** 0 takes one per core. */
  readonly threads: number
  /** Converted weights are kept here. */
  readonly cacheDir: string
}

export type ParentMessage =
  | { readonly type: 'start'; readonly options: DeviceOptions }
  | { readonly type: 'submit'; readonly request: ImageRequest }
  | { readonly type: 'cancel'; readonly id: string }

export type ChildMessage =
  | { readonly type: 'failed-to-start'; readonly message: string }
  /** What an operator should know, such as a conversion of weights that takes minutes. */
  | { readonly type: 'note'; readonly message: string }
  | { readonly type: 'ready'; readonly models: readonly ModelInfo[] }
  | { readonly type: 'progress'; readonly id: string; readonly progress: ImageProgress }
  | { readonly type: 'succeeded'; readonly id: string; readonly result: ImageResult }
  | {
      readonly type: 'failed'
      readonly id: string
      readonly code: EngineError['code']
      readonly message: string
    }
