/** A pool for tests: paints pixels from the seed at once or step by step, counts what it did, and obeys its signal. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ImageRequest, ImageResult, ModelInfo, Pool } from '../../src/engine/pool.ts'

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

export interface PaintPool extends Pool {
  /** Requests in the order of their arrival. */
  readonly requests: ImageRequest[]
  /** Requests that were given up because their signal said so. */
  readonly aborted: string[]
}

export interface PaintOptions {
  readonly stepMs?: number
  /** Stands in the way of a request before its first step, or throws in its place. */
  readonly before?: (request: ImageRequest) => Promise<void> | void
}

export function paintPool({ stepMs = 0, before }: PaintOptions = {}): PaintPool {
  const requests: ImageRequest[] = []
  const aborted: string[] = []
  return {
    requests,
    aborted,
    models: [paintModel],
    ready: true,
    async generate(request, { signal, onProgress } = {}): Promise<ImageResult> {
      requests.push(request)
      const gaveUp = new Promise<never>((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
      const work = async () => {
        await before?.(request)
        for (let step = 1; step <= request.steps; step++) {
          signal?.throwIfAborted()
          onProgress?.({ phase: 'denoising', step, steps: request.steps })
          if (stepMs > 0) await sleep(stepMs)
        }
        signal?.throwIfAborted()
      }
      try {
        await Promise.race([work(), gaveUp])
      } catch (error) {
        if (signal?.aborted) aborted.push(request.id)
        throw error
      }
      const { width, height } = request
      return {
        pixels: paint(request),
        width,
        height,
        bucket: { width: 64, height: 64 },
        promptTruncated: false,
        modelVersion: paintModel.version,
        timings: { waitMs: 0.5, encodeMs: 1.25, denoiseMs: 2.5, decodeMs: 3.75, computeMs: 7.25 },
      }
    },
    close: async () => undefined,
  }
}
