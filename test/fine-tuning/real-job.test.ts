/** Jobs on the real devices, from a dataset to a picture of what was deployed. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPool, type ImageRequest, type Pool } from '../../src/engine/pool.ts'
import { differing, stateOf } from '../training/small-run.ts'
import { configured, smallStage, useFineTuning } from './fixture.ts'

const fixture = useFineTuning()
let pool: Pool

beforeAll(async () => {
  const device = { provider: 'cpu', cores: [0, 0] } as const
  const cacheDir = join(fixture.dataDir, 'cache')
  pool = await startPool([{ name: 'cpu:0-0', device, models: configured, cacheDir }], () => undefined)
  await fixture.start(pool)
})
afterAll(async () => {
  await fixture.service.close()
  await pool.close()
})

const request = (id: string, model = 'tiny-512'): ImageRequest => ({
  id,
  model,
  prompt: 'a kite',
  negativePrompt: '',
  width: 256,
  height: 256,
  seed: 5,
  seedIndex: 0,
  steps: 2,
  guidanceScale: 1,
  scheduler: 'dpm++_2m',
  cleanCaption: false,
  priority: 'normal',
})
let pictures = 0
const paint = async (model?: string) => (await pool.generate(request(`picture-${pictures++}`, model))).pixels

const twoStages = {
  stages: [
    { ...smallStage, steps: 3 },
    { ...smallStage, kind: 'aesthetic', steps: 2, minAestheticScore: 2 },
  ],
  samples: { every: 2, prompts: [{ prompt: 'a kite', seed: 3 }], steps: 1, guidanceScale: 1 },
  checkpointEvery: 2,
  heldOutShare: 0.2,
} as const

test('a job of two stages leaves metrics, samples, checkpoints and reports of what it changed and used', async () => {
  const { id } = await fixture.create(twoStages)
  const job = await fixture.until(id, 'succeeded')
  const { service } = fixture
  expect(job).toMatchObject({
    progress: { step: 5, steps: 5 },
    pictures: { used: 12, leftOut: 0 },
    attempt: 1,
    expectedEnd: undefined,
  })
  const metrics = await service.metrics(id, {})
  expect(metrics.data.map(({ step, stage, stageStep }) => [step, stage, stageStep])).toEqual([
    [1, 0, 1],
    [2, 0, 2],
    [3, 0, 3],
    [4, 1, 1],
    [5, 1, 2],
  ])
  for (const { loss, gradientNorm, learningRate, imagesPerSecond } of metrics.data) {
    expect(loss).toBeGreaterThan(0)
    expect(gradientNorm).toBeGreaterThan(0)
    expect(learningRate).toBeCloseTo(1e-3, 8)
    expect(imagesPerSecond).toBeGreaterThan(0)
  }
  const samples = await service.samples(id, {})
  expect(samples.data.map(({ stage, step, index }) => [stage, step, index])).toEqual([
    [0, 2, 0],
    [0, 3, 0],
    [1, 5, 0],
  ])
  const webp = await Array.fromAsync(await service.openSample(id, samples.data[0]!.id))
  expect(Buffer.concat(webp).subarray(8, 12).toString()).toBe('WEBP')
  const checkpoints = await service.checkpoints(id, {})
  const folder = join(fixture.dataDir, 'fine-tuning', id)
  expect(checkpoints.data.map(({ folder }) => folder.slice('checkpoints/'.length)).toReversed()).toEqual(
    readdirSync(join(folder, 'checkpoints')).sort(),
  )
  expect(checkpoints.data[0]).toMatchObject({ stage: 1, step: 5, metrics: { step: 5 } })
  expect(job.reports).toMatchObject([
    { stage: 0, kind: 'align', steps: 3, heldOut: { pictures: 2 } },
    { stage: 1, kind: 'aesthetic', steps: 2 },
  ])
  for (const { largestChange, deviceMs, joules } of job.reports) {
    expect(largestChange.relative).toBeGreaterThan(0)
    expect(deviceMs).toBeGreaterThan(0)
    expect(joules).toBeGreaterThan(0)
  }
  expect(job.usage.deviceMs).toBeGreaterThan(0)
  const types = (await fixture.eventsOf(id)).map(({ details }) => details.type)
  expect(types.slice(0, 4)).toEqual(['created', 'validated', 'queued', 'started'])
  expect(types).toEqual(expect.arrayContaining(['stage_started', 'sample', 'checkpoint', 'stage_finished']))
  expect(types.at(-1)).toBe('succeeded')
})

test('a job that is paused and resumed, and one whose server stops in the middle, end with the same bits', async () => {
  const long = { stages: [{ ...smallStage, steps: 8 }], checkpointEvery: 3, seed: 5 }
  const whole = await fixture.create(long)
  await fixture.until(whole.id, 'succeeded')

  const paused = await fixture.create(long)
  await fixture.until(paused.id, 'running')
  await fixture.service.pause(paused.id)
  const rest = await fixture.until(paused.id, 'paused')
  expect(rest.progress.step).toBeLessThan(8)
  await fixture.service.resume(paused.id)
  const resumed = await fixture.until(paused.id, 'succeeded')
  expect(resumed.attempt).toBe(2)

  const stopped = await fixture.create(long)
  await fixture.until(stopped.id, 'running')
  await fixture.start(pool) // saves, and takes it up again
  const restarted = await fixture.until(stopped.id, 'succeeded')
  expect(restarted.attempt).toBe(2)
  const state = (id: string) =>
    stateOf({ folder: join(fixture.dataDir, 'fine-tuning', id) } as never, '00-000008')
  expect(differing(state(paused.id), state(whole.id))).toEqual([])
  expect(differing(state(stopped.id), state(whole.id))).toEqual([])
  for (const id of [whole.id, paused.id, stopped.id]) {
    const { data } = await fixture.service.metrics(id, {})
    expect(data.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  }
})

test('a cancelled job stops, keeps what it saved, and gives way to the next', async () => {
  const endless = await fixture.create({ stages: [{ ...smallStage, steps: 100_000 }], checkpointEvery: 2 })
  await fixture.until(endless.id, 'running')
  const next = await fixture.create()
  await expect
    .poll(async () => (await fixture.service.checkpoints(endless.id, {})).data.length, { timeout: 30_000 })
    .toBeGreaterThan(0)
  await fixture.service.cancel(endless.id)
  await fixture.until(next.id, 'succeeded')
  expect(await fixture.service.find(endless.id)).toMatchObject({ state: 'cancelled' })
  expect((await fixture.service.checkpoints(endless.id, {})).data.length).toBeGreaterThan(0)
})

test('a deployed LoRA changes the picture, a rollback brings the old one back, and no request fails meanwhile', async () => {
  const { id } = await fixture.create({
    method: { kind: 'lora', rank: 4 },
    stages: [{ ...smallStage, steps: 4, learningRate: 0.05 }],
  })
  await fixture.until(id, 'succeeded')
  const { service } = fixture
  const [checkpoint] = (await service.checkpoints(id, {})).data
  const adapter = await service.openAdapter(id, checkpoint!.id)
  const file = Buffer.concat(await Array.fromAsync(adapter.bytes))
  expect(file.length).toBe(adapter.sizeBytes)
  // The header of a safetensors file names its tensors.
  const header = JSON.parse(file.subarray(8, 8 + Number(file.readBigUInt64LE())).toString())
  expect(Object.keys(header).filter((key) => key.includes('to_q'))).toHaveLength(2 * 2 * 3)
  const before = await paint()
  const ended = new AbortController()
  const stream = (async () => {
    const painted: Uint8Array[] = []
    // With gaps as requests have them: on a device that is never idle each piece of a deployment waits for its patience to end.
    for (; !ended.signal.aborted; await sleep(200)) painted.push(await paint())
    return painted
  })()
  const deployment = await service.deploy(id, checkpoint!.id, 'tiny-512')
  expect(deployment).toMatchObject({
    name: 'tiny-512',
    state: 'live',
    baseModel: 'tiny-512',
    jobId: id,
    step: 4,
  })
  const after = await paint()
  expect(Buffer.compare(before, after)).not.toBe(0)
  expect(pool.models.find(({ name }) => name === 'tiny-512')?.version).toBe(deployment.modelVersion)

  const beside = await service.deploy(id, checkpoint!.id, undefined)
  expect(beside.name).toBe(`tiny-512-${id.slice(6, 14)}`)
  expect(Buffer.compare(await paint(beside.name), after)).toBe(0)

  expect(await service.deployments.rollback('tiny-512')).toBeUndefined()
  expect(Buffer.compare(await paint(), before)).toBe(0)
  ended.abort()
  for (const picture of await stream)
    expect([before, after].some((known) => Buffer.compare(known, picture) === 0)).toBe(true)
  await service.deployments.withdraw(beside.name)
  expect(pool.models.map(({ name }) => name)).toEqual(['tiny-512'])
})
