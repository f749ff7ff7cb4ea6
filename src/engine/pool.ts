/** The devices, as the rest of the program sees them: one place to hand a request to, whichever device makes it. */
import { Assistance } from './assistance.ts'
import { remainingMs, type Costs } from './costs.ts'
import { Device, DeviceDied, type DeviceEvent, type DeviceListeners } from './device.ts'
import { EngineError } from './protocol.ts'
import type { DeviceOptions, ImageProgress, ImageRequest, ImageResult, ModelInfo } from './protocol.ts'
import { trainingPool, type TrainingPool } from './training-pool.ts'
import { needOf, type ServedModel, type ServingView, type WorkOf } from './view.ts'

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
export {
  viewOf,
  type DeviceStatus,
  type PlanningView,
  type ServedModel,
  type ServingView,
  type WorkOf,
} from './view.ts'
export type { TrainingPool, TrainOptions } from './training-pool.ts'
export type { ExportOrder, ModelFolder, TrainingCosts, TrainingLoad } from './training-protocol.ts'

export interface GenerateOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: ImageProgress) => void) | undefined
}

/** What serving needs of the devices. */
export interface ServingPool extends ServingView {
  /**
   * Makes one picture. When its device dies it is made anew, on whichever device is free first, unseen by the caller.
   * @throws the signal's reason when it is aborted; {@link EngineError} otherwise
   */
  generate(request: ImageRequest, options?: GenerateOptions): Promise<ImageResult>
}

export interface Pool extends ServingPool, TrainingPool {
  /** What others need to know to plan with these devices. */
  readonly serves: readonly ServedModel[]
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
  const onFree = (): void => {
    for (const wake of waitingForDevice) wake()
    waitingForDevice.clear()
  }
  /** What every device serves, by name. */
  const folders = new Map(devices[0]?.models.map(({ name, folder }) => [name, folder]))
  const pool: Device[] = []
  const assistance = new Assistance(pool, ({ name }, message) =>
    onEvent({ kind: 'note', device: name, message }),
  )
  const listeners: DeviceListeners = {
    onEvent(event) {
      onEvent(event)
      const device = pool.find(({ name }) => name === event.device)
      if (event.kind === 'died' && device) assistance.died(device)
    },
    onOrder: (device, message) => assistance.hear(device, message),
    onFree() {
      onFree()
      assistance.distribute()
    },
  }
  const started = await Promise.allSettled(
    devices.map((options) => Device.start(options, folders, listeners)),
  )
  pool.push(...started.filter((result) => result.status === 'fulfilled').map(({ value }) => value))
  const failed = started.find((result) => result.status === 'rejected')
  if (failed) {
    await Promise.all(pool.map((device) => device.close()))
    throw failed.reason
  }
  const closed = new AbortController()

  /** Work that was promised to each device, by the parent's own reckoning: the device's word of it comes later. */
  const promisedMs = new Map(pool.map((device) => [device, 0]))

  function expectedMs(work: WorkOf): number {
    const model = modelOf(work.model)
    return remainingMs(costsOf(work.model), needOf(work, model))
  }

  function modelOf(name: string): ModelInfo {
    const model = modelsOf(pool, folders).find((one) => one.name === name)
    if (!model) throw new EngineError('unknown_model', `there is no model ${name}`)
    return model
  }

  function costsOf(name: string): Costs {
    const costs = firstKnown((device) => device.costsOf(name))
    if (!costs) throw new EngineError('unknown_model', `there is no model ${name}`)
    return costs
  }

  function firstKnown<T>(tell: (device: Device) => T | undefined): T | undefined {
    return pool.map(tell).find((known) => known !== undefined)
  }

  function choose(model: string, tokens: number, ms: number): Device | undefined {
    const ready = pool.filter((device) => device.serves(model))
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
      return modelsOf(pool, folders)
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
    get serves() {
      return modelsOf(pool, folders).flatMap((info) => {
        const costs = firstKnown((device) => device.costsOf(info.name))
        const memory = firstKnown((device) => device.memoryOf(info.name))
        return costs && memory ? [{ info, costs, memory }] : []
      })
    },
    expectedMs,
    async generate(request, options = {}) {
      const ms = expectedMs(request)
      const { tokens } = needOf(request, modelOf(request.model))
      for (let deaths = 0; ;) {
        if (!folders.has(request.model)) modelOf(request.model)
        const device = choose(request.model, tokens, ms)
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
          if (device.isFree) assistance.distribute()
        }
      }
    },
    ...trainingPool({ devices: pool, folders, assistance, deviceReady, modelOf, costsOf }),
    async close() {
      closed.abort(new EngineError('device_failed', 'the devices were closed'))
      await Promise.all(pool.map((device) => device.close()))
    },
  }
}

/** Every device serves the same models; loaded is what any of them holds. */
function modelsOf(pool: readonly Device[], folders: ReadonlyMap<string, string>): readonly ModelInfo[] {
  return [...folders.keys()].flatMap((name) => {
    const known = (devices: readonly Device[]): readonly ModelInfo[] =>
      devices.flatMap(({ models }) => models.filter((model) => model.name === name))
    const current = known(pool.filter((device) => device.serves(name)))
    // While no device is ready, what the last ones told is still so.
    const [model] = current.length > 0 ? current : known(pool)
    if (!model) return []
    return current.some(({ state }) => state === 'loaded') ? [{ ...model, state: 'loaded' }] : [model]
  })
}
