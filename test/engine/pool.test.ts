/** Several device processes: balance, and what happens when one dies. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  startPool,
  type DeviceEvent,
  type ImageProgress,
  type ImageRequest,
  type Pool,
} from '../../src/engine/pool.ts'

const folder = fileURLToPath(new URL('../../models/tiny', import.meta.url))
let cacheDir: string
let pool: Pool
const events: DeviceEvent[] = []

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-pool-'))
  const device = (core: 0 | 1) =>
    ({
      name: `cpu:${core}-${core}`,
      device: { provider: 'cpu', cores: [core, core] },
      models: [{ name: 'tiny', folder }],
      cacheDir,
    }) as const
  pool = await startPool([device(0), device(1)], (event) => events.push(event))
})
afterAll(async () => {
  await pool.close()
  await rm(cacheDir, { recursive: true })
})

const request = (id: string, more: Partial<ImageRequest> = {}): ImageRequest => ({
  id,
  model: 'tiny',
  prompt: 'a kite',
  negativePrompt: '',
  width: 512,
  height: 512,
  seed: 5,
  seedIndex: 0,
  steps: 3,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  cleanCaption: false,
  priority: 'normal',
  ...more,
})
const pids = () => events.flatMap((event) => (event.kind === 'ready' ? [event] : []))

test('both devices are used, and the picture does not depend on which', async () => {
  const results = await Promise.all(Array.from({ length: 8 }, (_, i) => pool.generate(request(`both-${i}`))))
  expect(new Set(results.map(({ receipt }) => receipt.device))).toEqual(new Set(['cpu:0-0', 'cpu:1-1']))
  for (const { pixels } of results) expect(Buffer.compare(pixels, results[0]!.pixels)).toBe(0)
})

test('more steps and guidance are more work', () => {
  const short = pool.expectedMs(request('a', { steps: 2, guidanceScale: 1 }))
  expect(pool.expectedMs(request('b', { steps: 20, guidanceScale: 1 }))).toBeGreaterThan(short)
  expect(pool.expectedMs(request('c', { steps: 20 }))).toBeGreaterThan(
    pool.expectedMs(request('d', { steps: 20, guidanceScale: 1 })),
  )
  expect(() => pool.expectedMs(request('e', { model: 'none' }))).toThrow('there is no model none')
})

test('a device that dies is replaced, and its work is done by the other one or by its successor, to the same pictures', async () => {
  const alone = await pool.generate(request('alone', { steps: 20 }))
  const started = Promise.withResolvers<void>()
  const onProgress = ({ phase }: ImageProgress) => phase === 'denoising' && started.resolve()
  const working = Array.from({ length: 4 }, (_, i) =>
    pool.generate(request(`w${i}`, { steps: 20 }), { onProgress }),
  )
  await started.promise
  const [victim] = pids()
  process.kill(victim!.pid, 'SIGKILL')
  for (const { pixels } of await Promise.all(working)) expect(Buffer.compare(pixels, alone.pixels)).toBe(0)
  expect(events.filter(({ kind }) => kind === 'died')).toHaveLength(1)
  await expect.poll(() => pids().length, { timeout: 30_000 }).toBe(3)
})

test('a request under which three devices died is failed, not tried for ever', async () => {
  await expect
    .poll(() => pool.devices.every(({ state }) => state === 'ready'), { timeout: 30_000 })
    .toBe(true)
  const kill = ({ phase }: ImageProgress) => {
    if (phase !== 'denoising') return
    for (const { state, name, requests } of pool.devices) {
      const pid = pids().findLast(({ device }) => device === name)?.pid
      if (state === 'ready' && requests > 0 && pid) process.kill(pid, 'SIGKILL')
    }
  }
  await expect(pool.generate(request('poison', { steps: 50 }), { onProgress: kill })).rejects.toThrow(
    '3 device processes died under this request',
  )
})

test('an aborted request rejects at once with the reason, on a device or while none is ready', async () => {
  const reason = new Error('no longer wanted')
  const abort = new AbortController()
  const waiting = pool.generate(request('aborted', { steps: 50 }), { signal: abort.signal })
  abort.abort(reason)
  await expect(waiting).rejects.toBe(reason)
  await expect(pool.generate(request('late'), { signal: abort.signal })).rejects.toBe(reason)
})
