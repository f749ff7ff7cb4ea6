/** Models that come, take a name over and go while devices serve. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPool, type DeviceEvent, type ImageRequest, type Pool } from '../../src/engine/pool.ts'
import { goldenBase } from '../training/small-run.ts'
import { fineTune } from './fine-tune.ts'

let cacheDir: string
let first: string
let second: string
let pool: Pool
const events: DeviceEvent[] = []
let hear: (event: DeviceEvent) => void = () => undefined

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-deploy-'))
  ;[first, second] = [join(cacheDir, 'first'), join(cacheDir, 'second')]
  await cp(goldenBase('tiny-512'), first, { recursive: true })
  await fineTune(first, second)
  const device = (core: 0 | 1) =>
    ({
      name: `cpu:${core}-${core}`,
      device: { provider: 'cpu', cores: [core, core] },
      models: [{ name: 'one', folder: first }],
      cacheDir,
    }) as const
  pool = await startPool([device(0), device(1)], (event) => {
    events.push(event)
    hear(event)
  })
})
afterAll(async () => {
  await pool.close()
  await rm(cacheDir, { recursive: true })
})

const request = (id: string, model = 'one'): ImageRequest => ({
  id,
  model,
  prompt: 'a kite',
  negativePrompt: '',
  width: 256,
  height: 256,
  seed: 5,
  seedIndex: 0,
  steps: 4,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  cleanCaption: false,
  priority: 'normal',
})
const versionOf = async (id: string, model?: string) => (await pool.generate(request(id, model))).modelVersion

test('under a stream of requests a name is taken over: none fails, those begun end on what they began with, the next get the new one', async () => {
  const [{ version: before } = { version: '' }] = pool.models
  const begun: Promise<string>[] = []
  const deployed = new AbortController()
  const stream = (async () => {
    while (!deployed.signal.aborted) {
      const index = begun.push(versionOf(`stream-${begun.length}`)) - 1
      // Four at a time.
      await begun[index - 3]
    }
  })()
  const info = await pool.deploy({ name: 'one', folder: second })
  const straightAfter = versionOf('after')
  deployed.abort()
  await stream
  expect(info).toMatchObject({ name: 'one', state: 'loaded' })
  expect(info.version).not.toBe(before)
  expect(await straightAfter).toBe(info.version)
  const versions = await Promise.all(begun)
  expect(versions[0]).toBe(before)
  for (const version of versions) expect([before, info.version]).toContain(version)
  expect(pool.models.map(({ name }) => name)).toEqual(['one'])
})

test('a device that starts again serves what was deployed since', async () => {
  await pool.deploy({ name: 'two', folder: first })
  const pids = events.flatMap((event) => (event.kind === 'ready' ? [event.pid] : []))
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await expect.poll(() => events.filter(({ kind }) => kind === 'ready').length, { timeout: 60_000 }).toBe(4)
  const [one, two] = await Promise.all([versionOf('r1', 'one'), versionOf('r2', 'two')])
  expect(pool.models.map(({ name, version }) => [name, version])).toEqual([
    ['one', one],
    ['two', two],
  ])
  expect(one).not.toBe(two)
})

test('when all devices die while a model is put live it is refused, and what served before serves again without its folder', async () => {
  const before = await versionOf('before the deaths')
  const folder = join(cacheDir, 'third')
  await cp(first, folder, { recursive: true })
  const starts = () => events.flatMap((event) => (event.kind === 'ready' ? [event.pid] : []))
  const started = starts().length
  // Both have opened it, and neither can have heard that it is to serve.
  let opened = 0
  hear = ({ kind }) => {
    if (kind !== 'plan' || (opened += 1) !== 2) return
    for (const pid of starts().slice(-2)) process.kill(pid, 'SIGKILL')
  }
  await expect(pool.deploy({ name: 'one', folder })).rejects.toMatchObject({ code: 'deploy_failed' })
  await rm(folder, { recursive: true })
  await expect.poll(() => starts().length, { timeout: 60_000 }).toBe(started + 2)
  expect(await versionOf('after the deaths')).toBe(before)
})

test('a withdrawn name is refused, and what was begun on it ends', async () => {
  const begun = pool.generate({ ...request('begun', 'two'), steps: 20 })
  await pool.withdraw('two')
  expect((await begun).receipt.rowSteps).toBe(40)
  await expect(pool.generate(request('late', 'two'))).rejects.toMatchObject({ code: 'unknown_model' })
  await expect(pool.withdraw('two')).rejects.toMatchObject({ code: 'unknown_model' })
  expect(pool.models.map(({ name }) => name)).toEqual(['one'])
})

test('what cannot be opened is refused with the reason, and what served before goes on', async () => {
  await expect(pool.deploy({ name: 'one', folder: cacheDir })).rejects.toMatchObject({
    code: 'deploy_failed',
    message: expect.stringContaining('model_index.json'),
  })
  expect(await versionOf('still')).toBe(pool.models[0]?.version)
})
