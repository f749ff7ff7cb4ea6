/** One picture's way through the device: the states, and what is remembered between two units of work. */
import type { Denoising } from './denoising.ts'
import type { Pipeline } from './pipeline.ts'
import type { ImageRequest, ImageResult } from './protocol.ts'

export type TaskState =
  | { readonly phase: 'encode' }
  | { readonly phase: 'denoise'; readonly denoising: Denoising }
  | { readonly phase: 'decode'; readonly denoising: Denoising }
  | { readonly phase: 'done'; readonly denoising: Denoising; readonly pixels: Uint8Array<ArrayBuffer> }

export type Phase = TaskState['phase']
type StateIn<P extends Phase> = Extract<TaskState, { phase: P }>

export interface Task {
  readonly request: ImageRequest
  readonly pipeline: Pipeline
  readonly arrivedMs: number
  startedMs?: number
  /** Time of the units of work that this task took part in. */
  readonly spentMs: Record<Exclude<Phase, 'done'>, number>
  /** The part of it that was spent in the library. */
  computeMs: number
  state: TaskState
}

export type TaskIn<P extends Phase> = Task & { readonly state: StateIn<P> }

export function isIn<P extends Phase>(task: Task, phase: P): task is TaskIn<P> {
  return task.state.phase === phase
}

export function createTask(request: ImageRequest, pipeline: Pipeline, nowMs: number): Task {
  return {
    request,
    pipeline,
    arrivedMs: nowMs,
    spentMs: { encode: 0, denoise: 0, decode: 0 },
    computeMs: 0,
    state: { phase: 'encode' },
  }
}

export function imageResult(task: Task, { denoising, pixels }: StateIn<'done'>): ImageResult {
  const { request, pipeline, arrivedMs, startedMs = arrivedMs, spentMs, computeMs } = task
  return {
    pixels,
    width: request.width,
    height: request.height,
    bucket: denoising.bucket,
    promptTruncated: denoising.promptTruncated,
    modelVersion: pipeline.info.version,
    timings: {
      waitMs: startedMs - arrivedMs,
      encodeMs: spentMs.encode,
      denoiseMs: spentMs.denoise,
      decodeMs: spentMs.decode,
      computeMs,
    },
  }
}
