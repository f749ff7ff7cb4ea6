/** The devices, as the rest of the program sees them: one place to hand a request to, whichever device makes it. */
import { callMs, remainingMs, type Costs } from './costs.ts'
import { nearestBucket } from '../diffusion/buckets.ts'
import { Device, DeviceDied, type DeviceEvent } from './device.ts'
import { isGuided } from './denoising.ts'
import { EngineError } from './protocol.ts'
import type { DeviceLoad, DeviceOptions, ImageProgress, ImageRequest, ImageResult, ModelInfo } from './protocol.ts'

export type { DeviceEvent } from './device.ts'
export { priorities, type Priority } from './batch.ts'
export { EngineError } from './protocol.ts'
export type {
  DeviceLoad,
  DeviceName,
  DeviceOptions,
  ImageProgress,
  ImageRequest,
  ImageResult,
  ModelInfo,
  PhaseTimings,
  Picture,
  PreviewRequest,
  Receipt,
} from './protocol.ts'

export interface GenerateOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: ImageProgress) => void) | undefined
}

export interface DeviceStatus {
  readonly name: string
  readonly state: 'starting' | 'ready' | 'restarting'
  /** Requests that wait or run there. */
  readonly requests: number
  readonly load: DeviceLoad
}

/** What of a request decides how much work it is. */
export type WorkOf = Pick<ImageRequest, 'model' | 'width' | 'height' | 'steps' | 'guidanceScale' | 'previews'>

export interface Pool {
  readonly models: readonly ModelInfo[]
  /** Some device can take work now. */
  readonly ready: boolean
  readonly devices: readonly DeviceStatus[]
  /**
   * Device time that this picture would take alone, from measured costs.
   * @throws {EngineError} unknown_model
   */
  expectedMs(work: WorkOf): number
  /**
   * Makes one picture. When its device dies it is made anew, on whichever device is free first, unseen by the caller.
   * @throws the signal's reason when it is aborted; {@link EngineError} otherwise
   */
  generate(request: ImageRequest, options?: GenerateOptions): Promise<ImageResult>
  close(): Promise<void>
}
