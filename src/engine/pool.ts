/** The devices, as the rest of the program sees them. */
import { Device, type DeviceEvent } from './device.ts'
import type { DeviceOptions, ImageProgress, ImageRequest, ImageResult, ModelInfo } from './protocol.ts'

export type { DeviceEvent } from './device.ts'
export { EngineError } from './protocol.ts'
export type {
  DeviceOptions,
  ImageProgress,
  ImageRequest,
  ImageResult,
  ModelInfo,
  PhaseTimings,
} from './protocol.ts'

export interface GenerateOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: ImageProgress) => void) | undefined
}

export interface Pool {
  readonly models: readonly ModelInfo[]
  /** Some device can take work now. */
  readonly ready: boolean
  /**
   * Makes one picture. A device that dies is restarted and the request runs again, unseen by the caller.
   * @throws the signal's reason when it is aborted; {@link EngineError} otherwise
   */
  generate(request: ImageRequest, options?: GenerateOptions): Promise<ImageResult>
  close(): Promise<void>
}

/**
 * Starts one process per entry of `devices` and resolves when all are ready.
 * @throws {EngineError} device_failed when one cannot start; the others are closed again
 */
export async function startPool(
  devices: readonly DeviceOptions[],
  onEvent: (event: DeviceEvent) => void,
): Promise<Pool> {
  const started = await Promise.allSettled(devices.map((options) => Device.start(options, onEvent)))
  const running = started.filter((result) => result.status === 'fulfilled').map(({ value }) => value)
  const failed = started.find((result) => result.status === 'rejected')
  if (failed) {
    await Promise.all(running.map((device) => device.close()))
    throw failed.reason
  }
  return {
    get models() {
      return running[0]?.models ?? []
    },
    get ready() {
      return running.some((device) => device.ready)
    },
    generate: (request, options = {}) => leastLoaded(running).generate(request, options),
    async close() {
      await Promise.all(running.map((device) => device.close()))
    },
  }
}

function leastLoaded(devices: readonly Device[]): Device {
  return devices.reduce((best, device) => (device.load < best.load ? device : best))
}
