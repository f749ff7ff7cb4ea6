/** A pool for tests: paints pixels from the seed at once or step by step, tells of its progress, and obeys its signal. */
import { setTimeout as sleep } from 'node:timers/promises'
import type {
  DeviceStatus,
  ImageProgress,
  ImageRequest,
  ImageResult,
  ModelInfo,
  ServingPool,
} from '../../src/engine/pool.ts'

export const paintModel: ModelInfo = {
  name: 'paint',
  version: 'paint-1',
  baseSize: 64,
  buckets: [{ width: 64, height: 64 }],
  defaultScheduler: 'dpm++_2m',
  schedulers: [
    { name: 'dpm++_2m', maxSteps: 100 },
    { name: 'euler', maxSteps: 100 },
    { name: 'lcm', maxSteps: 50 },
    { name: 'ddim', maxSteps: 0 },
  ],
  maxPromptTokens: 120,
  latentScale: 8,
  patchSize: 2,
  sizeBytes: 1024,
  state: 'loaded',
}

/** Every byte from (seed, seedIndex, position), by a 32-bit mixing function. */
export function paint({
  seed,
  seedIndex,
  width,
  height,
}: Pick<ImageRequest, 'seed' | 'seedIndex' | 'width' | 'height'>): Uint8Array<ArrayBuffer> {
  const pixels = new Uint8Array(width * height * 3)
  let state = (seed ^ Math.imul(seedIndex + 1, 0x9e3779b9)) >>> 0
  for (let i = 0; i < pixels.length; i++) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5) >>> 0
    pixels[i] = state >>> 24
  }
  return pixels
}

export interface PaintPool extends ServingPool {
  /** Requests in the order of their arrival. */
  readonly requests: ImageRequest[]
  /** Requests that were given up because their signal said so. */
  readonly aborted: string[]
}

export interface PaintOptions {
  readonly stepMs?: number
  /** Stands in the way of a request, once it has started, before its first step, or throws in its place. */
  readonly before?: (request: ImageRequest) => Promise<void> | void
  /** Stands in the way of one step. */
  readonly beforeStep?: (step: number, request: ImageRequest) => Promise<void> | void
  /** Stands in the way of a request before it starts. */
  readonly beforeStart?: (request: ImageRequest) => Promise<void> | void
  /** Device time that one step counts as, in what is expected and in what receipts say. */
  readonly stepCostMs?: number
  readonly devices?: number
  /** The size that every picture is made at; by default that which is asked for. */
  readonly madeAt?: Pick<ImageRequest, 'width' | 'height'>
}

/** Of a preview: a quarter of each side. */
const previewScale = 4

export function paintPool(options: PaintOptions = {}): PaintPool {
  const { stepMs = 0, before, beforeStep, beforeStart, stepCostMs = 10, devices = 1, madeAt } = options
  const requests: ImageRequest[] = []
  const aborted: string[] = []

  async function* work(request: ImageRequest): AsyncGenerator<ImageProgress> {
    const { steps, previews } = request
    await beforeStart?.(request)
    yield { phase: 'started', etaMs: steps * stepCostMs }
    await before?.(request)
    for (let step = 1; step <= steps; step++) {
      await beforeStep?.(step, request)
      if (stepMs > 0) await sleep(stepMs)
      yield { phase: 'denoising', step, steps, etaMs: (steps - step) * stepCostMs, batchRows: 2 }
      if (!previews?.steps.includes(step)) continue
      const made = madeAt ?? request
      const width = Math.ceil(made.width / previewScale)
      const height = Math.ceil(made.height / previewScale)
      const pixels = paint({ seed: request.seed + step, seedIndex: request.seedIndex, width, height })
      yield { phase: 'preview', step, picture: { pixels, width, height } }
    }
    yield { phase: 'decoding', etaMs: 0 }
  }

  return {
    requests,
    aborted,
    models: [paintModel],
    ready: true,
    devices: Array.from({ length: devices }, (_, index): DeviceStatus => {
      const load = { backlogMs: 0, batchRows: 2, unitsOfWork: 0, denoisingCalls: 3, denoisingRows: 6 }
      const cache = { denoisingTokens: 96, textEncodings: 0, promptCacheHits: 0, promptCacheBytes: 0 }
      const training = { job: undefined, deviceMs: 0, units: 0, steps: 0 }
      return {
        name: `paint:${index}`,
        state: 'ready',
        requests: 0,
        load: { ...load, ...cache, servingMs: 0, training },
      }
    }),
    expectedMs: ({ steps }) => steps * stepCostMs,
    async generate(request, { signal, onProgress } = {}): Promise<ImageResult> {
      requests.push(request)
      const gaveUp = new Promise<never>((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
      const carryOut = async () => {
        signal?.throwIfAborted()
        for await (const progress of work(request)) {
          signal?.throwIfAborted()
          onProgress?.(progress)
        }
      }
      try {
        await Promise.race([carryOut(), gaveUp])
      } catch (error) {
        if (signal?.aborted) aborted.push(request.id)
        throw error
      }
      const { steps } = request
      const { width, height } = madeAt ?? request
      return {
        pixels: paint({ ...request, width, height }),
        width,
        height,
        promptTruncated: false,
        modelVersion: paintModel.version,
        timings: { waitMs: 0.5, encodeMs: 1.25, denoiseMs: 2.5, decodeMs: 3.75, computeMs: 7.25 },
        receipt: {
          device: 'paint:0',
          deviceMs: steps * stepCostMs,
          rowSteps: 2 * steps,
          meanBatchRows: 2,
          maxBatchRows: 2,
          promptCached: request.seedIndex > 0,
        },
      }
    },
  }
}
