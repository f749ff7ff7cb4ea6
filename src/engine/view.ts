/** Devices as those see them who only plan with them: plain values, from wherever the devices are. */
import { nearestBucket } from '../diffusion/buckets.ts'
import { remainingMs, type Costs, type Need } from './costs.ts'
import { isGuided } from './denoising.ts'
import { EngineError, type DeviceLoad, type ImageRequest, type ModelInfo } from './protocol.ts'
import type { ModelMemory, TrainingCosts } from './training-protocol.ts'

export interface DeviceStatus {
  readonly name: string
  readonly state: 'starting' | 'ready' | 'restarting'
  /** Requests that wait or run there. */
  readonly requests: number
  readonly load: DeviceLoad
}

/** What of a request decides how much work it is. */
export type WorkOf = Pick<ImageRequest, 'model' | 'width' | 'height' | 'steps' | 'guidanceScale' | 'previews'>

/** A model and what work costs with it. */
export interface ServedModel {
  readonly info: ModelInfo
  readonly costs: Costs
  readonly memory: ModelMemory
}

export interface ServingView {
  readonly models: readonly ModelInfo[]
  /** Some device can take work now. */
  readonly ready: boolean
  readonly devices: readonly DeviceStatus[]
  /**
   * Device time that this picture would take alone, from measured costs.
   * @throws {EngineError} unknown_model
   */
  expectedMs(work: WorkOf): number
}

export interface PlanningView extends ServingView {
  /** @throws {EngineError} unknown_model */
  trainingCosts(model: string): TrainingCosts
}

/** Devices of other processes, as those last told of them. */
export function viewOf(
  served: () => readonly ServedModel[],
  devices: () => readonly DeviceStatus[],
): PlanningView {
  function find(name: string): ServedModel {
    const found = served().find(({ info }) => info.name === name)
    if (!found) throw new EngineError('unknown_model', `there is no model ${name}`)
    return found
  }
  return {
    get models() {
      return served().map(({ info }) => info)
    },
    get ready() {
      return devices().some(({ state }) => state === 'ready')
    },
    get devices() {
      return devices()
    },
    expectedMs(work) {
      const { info, costs } = find(work.model)
      return remainingMs(costs, needOf(work, info))
    },
    trainingCosts(model) {
      const { costs, memory } = find(model)
      const { step, encode, decode } = costs
      return { step, encode, decode, ...memory, devices: Math.max(1, devices().length) }
    },
  }
}

export function needOf({ width, height, steps, guidanceScale, previews }: WorkOf, model: ModelInfo): Need {
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
