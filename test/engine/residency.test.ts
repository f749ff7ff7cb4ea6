/** Two models on a device whose memory holds one of them. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { rowContextBytes } from '../../src/engine/memory-needs.ts'
import { maxPromptTokens } from '../../src/models/components.ts'
import { Model } from '../../src/engine/model.ts'
import { Pipeline } from '../../src/engine/pipeline.ts'
import { Residency } from '../../src/engine/residency.ts'

const golden = (name: string) =>
  fileURLToPath(new URL(`../fixtures/golden/${name}/checkpoint`, import.meta.url))
let cacheDir: string
let pipelines: readonly Pipeline[]

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-residency-'))
  const options = { provider: 'cpu', threads: 1, cacheDir, lowering: 'serve', onNote: () => {} } as const
  pipelines = await Promise.all(
    ['tiny-512', 'tiny-1024-ms'].map(
      async (name) =>
        new Pipeline(await Model.open(name, golden(name), options), {
          promptBytes: 2 ** 20,
          contextBytes: 2 ** 20,
        }),
    ),
  )
})
afterAll(() => rm(cacheDir, { recursive: true }))

const request = {
  prompt: 'a boat',
  negativePrompt: '',
  cleanCaption: false,
  steps: 3,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  width: 256,
  height: 256,
} as const

async function begin(pipeline: Pipeline) {
  const prepared = pipeline.prepare(request)
  const [rows = []] = await pipeline.encode([prepared])
  return pipeline.begin(prepared, rows, request, { kind: 'seed', seed: 3, index: 0 })
}

const states = (residency: Residency) => residency.infos.map(({ name, state }) => `${name} ${state}`)

test('the least recently used model leaves for the one that comes, and work begun on it goes on when it is back', async () => {
  const [first, second] = pipelines as readonly [Pipeline, Pipeline]
  const largest = Math.max(...pipelines.map(({ model }) => model.plan.residentBytes))
  const residency = new Residency(pipelines, largest)
  expect(states(residency)).toEqual(['tiny-512 unloaded', 'tiny-1024-ms unloaded'])

  await residency.load(first)
  const [interrupted, whole] = [await begin(first), await begin(first)]
  for (let step = 0; step < 3; step++) await first.step([whole])
  await first.step([interrupted])

  await residency.load(second)
  expect(states(residency)).toEqual(['tiny-512 unloaded', 'tiny-1024-ms loaded'])
  await expect(first.step([interrupted])).rejects.toThrow('the model tiny-512 is not loaded')

  await residency.load(first)
  expect(states(residency)).toEqual(['tiny-512 loaded', 'tiny-1024-ms unloaded'])
  expect(interrupted.step).toBe(1)
  for (let step = 1; step < 3; step++) await first.step([interrupted])
  expect(interrupted.latents).toEqual(whole.latents)
})

test('a model that is larger than the limit is refused with both figures', async () => {
  const [first] = pipelines as readonly [Pipeline, ...Pipeline[]]
  const residency = new Residency(pipelines, 100)
  await expect(residency.load(first)).rejects.toThrow(
    /the model tiny-512 needs \d+ MiB for its weights, and ATELIER_MEMORY_LIMIT_MIB leaves 0 MiB/,
  )
})

test('without a limit all stay', async () => {
  const residency = new Residency(pipelines, Infinity)
  for (const pipeline of pipelines) await residency.load(pipeline)
  expect(states(residency)).toEqual(['tiny-512 loaded', 'tiny-1024-ms loaded'])
})

test('two models stay beside each other as long as the largest work of one leaves room for what the other keeps', async () => {
  const [first, second] = pipelines as readonly [Pipeline, Pipeline]
  const plans = pipelines.map(({ model }) => model.plan)
  const gib = 2 ** 30
  const own = [
    { idle: 2 * gib, working: 3 * gib },
    { idle: 1 * gib, working: 5 * gib },
  ]
  for (const [i, { model }] of pipelines.entries())
    Object.assign(model, { plan: { ...model.plan, ownBytes: own[i] } })
  try {
    for (const [limitBytes, expected] of [
      [7 * gib, 'loaded'],
      [7 * gib - 1, 'unloaded'],
    ] as const) {
      const residency = new Residency(pipelines, limitBytes)
      await residency.load(first)
      await residency.load(second)
      expect(states(residency)).toEqual([`tiny-512 ${expected}`, 'tiny-1024-ms loaded'])
      for (const pipeline of pipelines) await pipeline.unload()
    }
  } finally {
    for (const [i, { model }] of pipelines.entries()) Object.assign(model, { plan: plans[i] })
  }
})

test('what batches lie in leaves with the transformer, and is as large as the plan counts it', async () => {
  const [first] = pipelines as readonly [Pipeline, ...Pipeline[]]
  const { model } = first
  const { plan } = model
  const residency = new Residency(pipelines, Infinity)
  const predictNoise = vi.spyOn(model, 'predictNoise')
  const contextOf = async (denoising: Awaited<ReturnType<typeof begin>>) => {
    await first.step([denoising])
    return predictNoise.mock.lastCall![0]['context']!.data
  }
  await residency.load(first)
  const one = await contextOf(await begin(first))
  expect(one.byteLength).toBe(2 * rowContextBytes(model.pixart, maxPromptTokens))
  expect((await contextOf(await begin(first))).buffer).toBe(one.buffer)

  await first.unload()
  await residency.load(first)
  const afterUnload = await contextOf(await begin(first))
  expect(afterUnload.buffer).not.toBe(one.buffer)
  expect(afterUnload).toEqual(one)

  Object.assign(model, { plan: { ...plan, textEncoder: 'leaves' } })
  await residency.load(first, 'encode')
  await residency.load(first, 'denoise')
  const afterEncoding = await contextOf(await begin(first))
  expect(afterEncoding.buffer).not.toBe(afterUnload.buffer)
  expect(afterEncoding).toEqual(one)
  Object.assign(model, { plan })
  predictNoise.mockRestore()
})
