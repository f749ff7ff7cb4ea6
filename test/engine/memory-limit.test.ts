/** Under a limit of memory a model works in other ways, and makes the same pictures. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TorchGenerator } from '../../src/diffusion/noise.ts'
import { Loop } from '../../src/engine/loop.ts'
import type { MemoryPlan } from '../../src/engine/memory-plan.ts'
import { Model, stages } from '../../src/engine/model.ts'
import { openDevice } from '../../src/engine/open-device.ts'
import { Pipeline } from '../../src/engine/pipeline.ts'
import type { ChildMessage, ImageRequest } from '../../src/engine/protocol.ts'

const folder = fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url))
let cacheDir: string
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-memory-limit-'))
})
afterAll(() => rm(cacheDir, { recursive: true }))

const requests = ['a boat', 'a second boat'].map((prompt, index): ImageRequest => ({
  id: `request-${index}`,
  model: 'tiny',
  prompt,
  negativePrompt: '',
  cleanCaption: false,
  width: 512,
  height: 384,
  seed: index,
  seedIndex: 0,
  steps: 2,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  priority: 'normal',
}))

interface Made {
  readonly plan: MemoryPlan
  /** Whether text encoder and transformer were ever in memory together. */
  readonly isWhole: boolean
  readonly pixels: readonly Uint8Array[]
}

async function make(memoryLimitBytes: number | undefined): Promise<Made> {
  const device = await openDevice(
    {
      name: 'cpu',
      device: { provider: 'cpu' },
      models: [{ name: 'tiny', folder }],
      cacheDir,
      memoryLimitBytes,
    },
    () => undefined,
  )
  const { model } = device.pipelines[0]!
  const pixels = new Map<string, Uint8Array>()
  let isWhole = false
  const ended = Promise.withResolvers<void>()
  const tell = (message: ChildMessage): void => {
    if (message.type === 'failed') ended.reject(new Error(message.message))
    if (message.type === 'succeeded') pixels.set(message.id, message.result.pixels)
    if (pixels.size === requests.length) ended.resolve()
    isWhole ||= model.isReadyFor('encode') && model.isReadyFor('denoise')
  }
  const loop = new Loop({ device: 'cpu', ...device, tell })
  for (const request of requests) loop.submit(request)
  await Promise.race([ended.promise, loop.run()])
  await model.unload()
  return { plan: model.plan, isWhole, pixels: requests.map(({ id }) => pixels.get(id)!) }
}

const openModel = (memoryLimitBytes?: number): Promise<Model> =>
  Model.open('tiny', folder, {
    provider: 'cpu',
    threads: 2,
    cacheDir,
    lowering: 'serve',
    memoryLimitBytes,
    onNote: () => undefined,
  })

const highest = ({ peakBytes }: MemoryPlan): number => Math.max(...Object.values(peakBytes))

test('under a limit that is too tight for all of it the text encoder leaves and comes back, for the same pictures', async () => {
  const free = await make(undefined)
  expect(free.plan).toMatchObject({ textEncoder: 'stays', wholeDecodeMaxPixels: Infinity })
  const limit = highest(free.plan) - 1
  const { plan, isWhole, pixels } = await make(limit)
  expect([free.isWhole, isWhole]).toEqual([true, false])
  expect(plan.textEncoder).toBe('leaves')
  expect(highest(plan)).toBeLessThanOrEqual(limit)
  for (const [index, own] of pixels.entries()) expect(Buffer.from(own).equals(free.pixels[index]!)).toBe(true)
})

test('a limit that nothing fits in stops the start with what is needed and what would help', async () => {
  await expect(make(100 * 2 ** 20)).rejects.toThrow(
    /^ATELIER_MEMORY_LIMIT_MIB: the model tiny does not fit; .*needs at least \d+ MiB; what would help: .*a higher ATELIER_MEMORY_LIMIT_MIB/,
  )
})

test('a decode in strips gives the picture of a whole one', async () => {
  const model = await openModel()
  await model.load()
  const size = { batch: 2, height: 24, width: 20 }
  const noise = new TorchGenerator(5)
  const latents = new Float32Array(2 * model.vae.latentChannels * 24 * 20)
  noise.fillNormal(latents, { offset: 0, total: latents.length })
  const whole = await model.decode(latents, size)
  Object.assign(model, { plan: { ...model.plan, wholeDecodeMaxPixels: 0, stripBytes: 200_000 } })
  const computedBeforeMs = model.computedMs
  const inStrips = await model.decode(latents, size)
  expect(model.computedMs).toBeGreaterThan(computedBeforeMs)
  await model.unload()
  expect(inStrips).not.toEqual(whole) // they round otherwise, so that this shows that there were strips
  const off = inStrips.reduce((most, value, i) => Math.max(most, Math.abs(value - whole[i]!)), 0)
  expect(off).toBeLessThanOrEqual(1e-5)
})

test('a model that comes back begins with the stage that is wanted', async () => {
  const free = await openModel()
  const model = await openModel(highest(free.plan) - 1)
  const pipeline = new Pipeline(model, { promptBytes: 2 ** 20, contextBytes: 2 ** 20 })
  const ready = () => stages.filter((stage) => model.isReadyFor(stage))
  await pipeline.load()
  expect(ready()).toEqual(['encode'])
  await model.unload()
  await pipeline.load('denoise')
  expect(ready()).toEqual(['denoise', 'decode'])
  await model.prepare('encode')
  expect(ready()).toEqual(['encode'])
  await model.unload()
})
