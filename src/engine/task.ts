/** One picture's way through the device: its states, and what is remembered between two units of work. */
import type { Candidate, Priority, WorkKind } from './batch.ts'
import type { Need } from './costs.ts'
import { isGuided, type Denoising } from './denoising.ts'
import type { Stage } from './model.ts'
import type { Pipeline, Prepared } from './pipeline.ts'
import type { ImageRequest, ImageResult, Picture } from './protocol.ts'
import type { Tensor } from './session.ts'

export type TaskState =
  | { readonly phase: 'encode' }
  /** `preview`: the picture that was just made of the last step, if one was. */
  | { readonly phase: 'denoise'; readonly denoising: Denoising; readonly preview?: Picture }
  | { readonly phase: 'preview'; readonly denoising: Denoising }
  | {
      readonly phase: 'decode'
      readonly denoising: Denoising
      readonly part: number
      readonly hidden: Tensor<'float32'>
    }
  | { readonly phase: 'done'; readonly denoising: Denoising; readonly pixels: Uint8Array<ArrayBuffer> }

export type Phase = TaskState['phase']
const stageOf: Readonly<Record<Phase, Stage>> = {
  encode: 'encode',
  denoise: 'denoise',
  preview: 'decode',
  decode: 'decode',
  done: 'decode',
}
type StateIn<P extends Phase> = Extract<TaskState, { phase: P }>

/** What was used so far. */
interface Usage {
  readonly spentMs: Record<'encode' | 'denoise' | 'decode', number>
  computeMs: number
  deviceMs: number
  rowSteps: number
  batchRows: number
  maxBatchRows: number
}

export class Task implements Candidate {
  readonly request: ImageRequest
  readonly pipeline: Pipeline
  readonly prepared: Prepared
  readonly arrivedMs: number
  readonly deadlineMs: number | undefined
  readonly usage: Usage = {
    spentMs: { encode: 0, denoise: 0, decode: 0 },
    computeMs: 0,
    deviceMs: 0,
    rowSteps: 0,
    batchRows: 0,
    maxBatchRows: 0,
  }
  readonly promptCached: boolean
  startedMs: number | undefined
  state: TaskState = { phase: 'encode' }

  /** @param clock what `arrivedMs` and Unix time are now, to bring a deadline onto the same clock */
  constructor(
    request: ImageRequest,
    pipeline: Pipeline,
    clock: { readonly nowMs: number; readonly unixMs: number },
  ) {
    this.request = request
    this.pipeline = pipeline
    this.prepared = pipeline.prepare(request)
    this.promptCached = pipeline.missing(this.prepared).length === 0
    this.arrivedMs = clock.nowMs
    this.deadlineMs =
      request.deadlineMs === undefined ? undefined : clock.nowMs + request.deadlineMs - clock.unixMs
  }

  get priority(): Priority {
    return this.request.priority
  }

  get next(): WorkKind {
    if (this.state.phase === 'done') throw new Error('a task that is done needs nothing')
    return this.#isLoaded ? this.state.phase : 'load'
  }

  get need(): Need {
    const { state, pipeline, prepared, request } = this
    const { height, width, patchSize } = prepared.layout
    const step = state.phase === 'encode' ? 0 : state.denoising.step
    const latentPixels = height * width
    return {
      model: pipeline.key,
      isLoaded: this.#isLoaded,
      prompts: state.phase === 'encode' ? pipeline.missing(prepared).length : 0,
      rows: isGuided(request.guidanceScale) ? 2 : 1,
      tokens: latentPixels / patchSize ** 2,
      stepsLeft: request.steps - step,
      latentPixels,
      partsDone: state.phase === 'decode' ? state.part : 0,
      previewPixels: previewPixels(
        request,
        pipeline,
        latentPixels,
        state.phase === 'preview' ? step - 1 : step,
      ),
    }
  }

  /** The stage of the model that the next unit of work belongs to. */
  get stage(): Stage {
    return stageOf[this.state.phase]
  }

  /** Whether the next unit of work needs no weights that are not in memory. */
  get #isLoaded(): boolean {
    const { model } = this.pipeline
    if (model.isReadyFor(this.stage)) return true
    return this.stage === 'encode' && model.isLoaded && this.pipeline.missing(this.prepared).length === 0
  }

  /** Whether the step just taken is one after which a preview is wanted. */
  get wantsPreview(): boolean {
    return (
      this.state.phase === 'denoise' &&
      (this.request.previews?.steps.includes(this.state.denoising.step) ?? false)
    )
  }
}

/** Latent pixels of all previews that are wanted after more than `stepsDone` steps. */
function previewPixels(
  { previews }: ImageRequest,
  { model }: Pipeline,
  latentPixels: number,
  stepsDone: number,
): number {
  if (!previews) return 0
  const count = previews.steps.filter((step) => step > stepsDone).length
  const largest = (previews.maxSide / model.latentScale) ** 2
  return count * Math.min(latentPixels, largest)
}

export type TaskIn<P extends Phase> = Task & { readonly state: StateIn<P> }

export function isIn<P extends Phase>(task: Task, phase: P): task is TaskIn<P> {
  return task.state.phase === phase
}

export function imageResult(task: Task, { denoising, pixels }: StateIn<'done'>, device: string): ImageResult {
  const { request, pipeline, arrivedMs, startedMs = arrivedMs, usage, promptCached } = task
  const { spentMs, computeMs, deviceMs, rowSteps, batchRows, maxBatchRows } = usage
  return {
    pixels,
    ...denoising.bucket,
    promptTruncated: denoising.promptTruncated,
    modelVersion: pipeline.model.description.version,
    timings: {
      waitMs: startedMs - arrivedMs,
      encodeMs: spentMs.encode,
      denoiseMs: spentMs.denoise,
      decodeMs: spentMs.decode,
      computeMs,
    },
    receipt: {
      device,
      deviceMs,
      rowSteps,
      meanBatchRows: batchRows / request.steps,
      maxBatchRows,
      promptCached,
    },
  }
}
