/** The pool over a real device process that is killed at chosen moments. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { startPool, type DeviceEvent, type ImageRequest, type Pool } from '../../src/engine/pool.ts'

const folder = fileURLToPath(new URL('../../models/tiny', import.meta.url))

let cacheDir: string
let pool: Pool
let events: DeviceEvent[] = []

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-pool-'))
  const device = { models: [{ name: 'tiny', folder }], provider: 'cpu', threads: 1, cacheDir } as const
  pool = await startPool([device], (event) => events.push(event))
})

beforeEach(() => vi.waitUntil(() => pool.ready, { timeout: 30_000 }))

afterAll(async () => {
  await pool.close()
  await rm(cacheDir, { recursive: true })
})

const request = (changes: Partial<ImageRequest> = {}): ImageRequest => ({
  id: 'picture',
  model: 'tiny',
  prompt: 'a lighthouse',
  negativePrompt: '',
  width: 256,
  height: 256,
  seed: 1,
  seedIndex: 0,
  steps: 4,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  cleanCaption: false,
  ...changes,
})

/** Kills the device process that is there now. */
function kill(): void {
  const ready = events.findLast((event) => event.kind === 'ready')
  if (ready?.kind !== 'ready') throw new Error('no device was ever ready')
  process.kill(ready.pid, 'SIGKILL')
}

test('a request under which its device dies again and again is failed, wherever in the work that is', async () => {
  const before = await pool.generate(request())
  const deadly = pool.generate(request({ id: 'deadly', prompt: 'never seen before' }), {
    onProgress: ({ phase }) => {
      if (phase === 'encoding') kill()
    },
  })
  await expect(deadly).rejects.toMatchObject({ code: 'device_failed' })
  expect((await pool.generate(request())).pixels).toEqual(before.pixels)
})

test('a request that is cancelled while its device restarts rejects at once and is not made', async () => {
  const cancel = new AbortController()
  const started = Promise.withResolvers<void>()
  const cancelled = pool.generate(request({ id: 'cancelled', steps: 100 }), {
    signal: cancel.signal,
    onProgress: () => started.resolve(),
  })
  await started.promise
  kill()
  await expect.poll(() => pool.ready, { interval: 1 }).toBe(false)
  cancel.abort(new Error('not wanted any more'))
  await expect(cancelled).rejects.toThrow('not wanted any more')
  const { timings } = await pool.generate(request({ id: 'next' }))
  expect(timings.waitMs).toBeLessThan(timings.denoiseMs)
})

test('a signal to the whole group of processes leaves the device to its parent', async () => {
  const ready = events.findLast((event) => event.kind === 'ready')!
  const deaths = events.filter(({ kind }) => kind === 'died').length
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.kill(ready.pid, signal)
  await pool.generate(request())
  expect(events.filter(({ kind }) => kind === 'died')).toHaveLength(deaths)
})

test('a device that cannot even start says why, once', async () => {
  const told: DeviceEvent[] = []
  const models = [{ name: 'none', folder: cacheDir }]
  const start = startPool([{ models, provider: 'cpu', threads: 1, cacheDir }], (event) => told.push(event))
  await expect(start).rejects.toMatchObject({
    code: 'device_failed',
    message: expect.stringContaining('model_index.json'),
  })
  expect(told).toEqual([])
})
