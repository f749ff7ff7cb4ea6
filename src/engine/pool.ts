/** The devices, as the rest of the program sees them: one place to hand a request to, whichever device makes it. */
import { nearestBucket } from '../diffusion/buckets.ts'
import { remainingMs, type Need } from './costs.ts'
import { Device, DeviceDied, type DeviceEvent } from './device.ts'
import { isGuided } from './denoising.ts'
import { EngineError } from './protocol.ts'
import type {
  DeviceLoad,
  DeviceOptions,
  ImageProgress,
  ImageRequest,
  ImageResult,
  ModelInfo,
} from './protocol.ts'
import type { ExportOrder, ModelFolder, TrainingCosts } from './training-protocol.ts'
import type { TrainingEvent, TrainingJob, TrainingOutcome } from '../training/job.ts'

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
export type { ExportOrder, ModelFolder, TrainingCosts, TrainingLoad } from './training-protocol.ts'

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

/** What serving needs of the devices. */
export interface ServingPool {
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
}

export interface TrainOptions {
  readonly onEvent: (event: TrainingEvent) => void
  /** Its first unit of work begins on this device; again after each move to another. */
  readonly onStart?: ((device: string) => void) | undefined
  /** When aborted, the job saves and ends as soon as it can, as `paused`. */
  readonly pause?: AbortSignal | undefined
  /** When aborted, the job ends before its next unit of work, as `cancelled`. What was saved stays. */
  readonly cancel?: AbortSignal | undefined
}

/** What fine-tuning needs of the devices. */
export interface TrainingPool {
  /**
   * Runs a job, or goes on with it from its last checkpoint, in the time that requests leave of one device; others that have nothing to
   * do help. When the device dies the job goes on from its last checkpoint on whichever is ready.
   * @throws {EngineError} training_failed with the reason; device_failed when devices die under it again and again without a
   *   checkpoint in between
   */
  train(job: TrainingJob, options: TrainOptions): Promise<TrainingOutcome>
  /**
   * Serves a checkpoint under a name, new or taken over, on every device. It is loaded before it takes the name over; requests that
   * were begun end on what they began with. It stays until it is withdrawn, across restarts of devices though not of the pool.
   * @throws {EngineError} deploy_failed when a device cannot open it; then nothing has changed
   */
  deploy(model: ModelFolder): Promise<ModelInfo>
  /** Requests for the name are refused from now on; those that were begun end. @throws {EngineError} unknown_model */
  withdraw(name: string): Promise<void>
  /** Makes a checkpoint of a job into a model or an adapter, on a device, between other work. @throws {EngineError} export_failed */
  exportCheckpoint(order: ExportOrder): Promise<void>
  /** @throws {EngineError} unknown_model */
  trainingCosts(model: string): TrainingCosts
}

export interface Pool extends ServingPool, TrainingPool {
  close(): Promise<void>
}

/** A request that was being worked on when its device died this often is taken to be the cause. */
const maxDeathsPerRequest = 3

/**
 * Starts one process per entry of `devices` and resolves when all are ready.
 * @throws {EngineError} device_failed when one cannot start; the others are closed again
 */
export async function startPool(
  devices: readonly DeviceOptions[],
  onEvent: (event: DeviceEvent) => void,
): Promise<Pool> {
  const waitingForDevice = new Set<() => void>()
  const announce = (event: DeviceEvent): void => {
    onEvent(event)
    if (event.kind !== 'ready') return
    for (const wake of waitingForDevice) wake()
    waitingForDevice.clear()
  }
  const started = await Promise.allSettled(devices.map((options) => Device.start(options, announce)))
  const pool = started.filter((result) => result.status === 'fulfilled').map(({ value }) => value)
  const failed = started.find((result) => result.status === 'rejected')
  if (failed) {
    await Promise.all(pool.map((device) => device.close()))
    throw failed.reason
  }
  const closed = new AbortController()

  /** Work that was promised to each device, by the parent's own reckoning: the device's word of it comes later. */
  const promisedMs = new Map(pool.map((device) => [device, 0]))

  function expectedMs(work: WorkOf): number {
    const model = pool[0]?.models.find(({ name }) => name === work.model)
    const costs = pool.map((device) => device.costsOf(work.model)).find((known) => known !== undefined)
    if (!model || !costs) throw new EngineError('unknown_model', `there is no model ${work.model}`)
    return remainingMs(costs, needOf(work, model))
  }

  function choose(tokens: number, ms: number): Device | undefined {
    const ready = pool.filter((device) => device.state === 'ready')
    const backlog = (device: Device) => promisedMs.get(device) ?? 0
    const least = Math.min(...ready.map(backlog))
    // A batch of one token count saves more than an even spread does, as long as nobody waits notably longer for it.
    const companion = ready.find((device) => device.hasTokens(tokens) && backlog(device) <= least + ms / 2)
    return companion ?? ready.find((device) => backlog(device) === least)
  }

  async function deviceReady(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const either = AbortSignal.any(signal ? [signal, closed.signal] : [closed.signal])
    const giveUp = () => reject(either.reason)
    waitingForDevice.add(resolve)
    either.addEventListener('abort', giveUp, { once: true })
    try {
      if (either.aborted) giveUp()
      await promise
    } finally {
      waitingForDevice.delete(resolve)
      either.removeEventListener('abort', giveUp)
    }
  }

  return {
    get models() {
      return mergeModels(pool)
    },
    get ready() {
      return pool.some((device) => device.state === 'ready')
    },
    get devices() {
      return pool.map((device) => ({
        name: device.name,
        state: device.state === 'closed' ? 'restarting' : device.state,
        requests: device.requests,
        load: device.load,
      }))
    },
    expectedMs,
    async generate(request, options = {}) {
      const ms = expectedMs(request)
      const { tokens } = needOf(
        request,
        mergeModels(pool).find(({ name }) => name === request.model)!,
      )
      for (let deaths = 0; ;) {
        const device = choose(tokens, ms)
        if (!device) {
          await deviceReady(options.signal)
          continue
        }
        promisedMs.set(device, promisedMs.get(device)! + ms)
        try {
          return await device.generate(request, tokens, options)
        } catch (error) {
          if (!(error instanceof DeviceDied)) throw error
          if (error.wasStarted) deaths += 1
          if (deaths >= maxDeathsPerRequest) {
            throw new EngineError(
              'device_failed',
              `${deaths} device processes died under this request: ${error.message}`,
            )
          }
        } finally {
          promisedMs.set(device, promisedMs.get(device)! - ms)
        }
      }
    },
    train: () => Promise.reject(notYet()),
    deploy: () => Promise.reject(notYet()),
    withdraw: () => Promise.reject(notYet()),
    exportCheckpoint: () => Promise.reject(notYet()),
    trainingCosts() {
      throw notYet()
    },
    async close() {
      closed.abort(new EngineError('device_failed', 'the devices were closed'))
      await Promise.all(pool.map((device) => device.close()))
    },
  }
}

const notYet = () => new EngineError('training_failed', 'devices cannot train yet')

/** Every device opens the same models; loaded is what any of them holds. */
function mergeModels(pool: readonly Device[]): readonly ModelInfo[] {
  const [first, ...others] = pool
  return (first?.models ?? []).map((model) => {
    const isLoaded = others.some(({ models }) =>
      models.some(({ name, state }) => name === model.name && state === 'loaded'),
    )
    return isLoaded ? { ...model, state: 'loaded' } : model
  })
}

function needOf({ width, height, steps, guidanceScale, previews }: WorkOf, model: ModelInfo): Need {
  const bucket = nearestBucket(model.buckets, { width, height })
  const latentPixels = (bucket.width * bucket.height) / model.latentScale ** 2
  const previewPixels = Math.min(latentPixels, ((previews?.maxSide ?? 0) / model.latentScale) ** 2)
  return {
    model: model.name,
    isLoaded: model.state === 'loaded',
    prompts: 1,
    rows: isGuided(guidanceScale) ? 2 : 1,
    tokens: latentPixels / model.patchSize ** 2,
    stepsLeft: steps,
    latentPixels,
    partsDone: 0,
    previewPixels: (previews?.steps.length ?? 0) * previewPixels,
  }
}
