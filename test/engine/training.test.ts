/** Real jobs on device processes: help between devices, deaths, pauses and what comes of a job. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPool, type DeviceEvent, type ImageRequest, type Pool } from '../../src/engine/pool.ts'
import type { TrainingEvent, TrainingJob } from '../../src/training/job.ts'
import { jobOf, smallSet, stage } from '../training/data/small-set.ts'
import { differing, goldenBase, ofType, run, stateOf } from '../training/small-run.ts'

let cacheDir: string
let pool: Pool
let alone: TrainingJob
const events: DeviceEvent[] = []

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-training-'))
  const device = (core: 0 | 1) =>
    ({
      name: `cpu:${core}-${core}`,
      device: { provider: 'cpu', cores: [core, core] },
      models: [],
      cacheDir,
    }) as const
  pool = await startPool([device(0), device(1)], (event) => events.push(event))
  // The same job, in this process: what every other way to run it must come to, bit for bit.
  const folder = join(cacheDir, 'alone')
  await mkdir(folder)
  await smallSet(
    folder,
    Array.from({ length: 8 }, () => ({})),
  )
  const stages = [{ ...stage, resolution: 16, steps: 4, batchSize: 4, gradientClip: 1, learningRate: 1e-3 }]
  const inMicroBatchesOfOne = { maxMicroStepMs: 0 }
  const base = goldenBase('tiny-512')
  alone = jobOf(folder, { base, stages, checkpointEvery: 2, keepCheckpoints: 2, ...inMicroBatchesOfOne })
  await run(alone)
})
afterAll(async () => {
  await pool.close()
  await rm(cacheDir, { recursive: true })
})

const last = '00-000004'
const again = (id: string): TrainingJob => ({ ...alone, id, folder: join(cacheDir, id) })
const pidOf = (name: string) =>
  events.flatMap((event) => (event.kind === 'ready' && event.device === name ? [event.pid] : [])).at(-1)!
const statusOf = (name: string) => pool.devices.find((device) => device.name === name)!
const kill = (name: string) => {
  if (statusOf(name).state === 'ready') process.kill(pidOf(name), 'SIGKILL')
}
const other = (name: string) => (name === 'cpu:0-0' ? 'cpu:1-1' : 'cpu:0-0')

test('a job comes to the same weights, bit for bit, when another device helps', async () => {
  const job = again('helped')
  const told: TrainingEvent[] = []
  let home = ''
  const outcome = await pool.train(job, {
    onEvent: (event) => told.push(event),
    onStart: (device) => (home = device),
  })
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(differing(stateOf(job, last), stateOf(alone, last))).toEqual([])
  expect(ofType(told, 'step').map(({ step }) => step)).toEqual([1, 2, 3, 4])
  // Each device tells what it has done when it comes to rest.
  await expect
    .poll(() => statusOf(home).load.training, { timeout: 5_000 })
    .toMatchObject({ job: undefined, steps: 4 })
  await expect.poll(() => statusOf(other(home)).load.training.units, { timeout: 5_000 }).toBeGreaterThan(0)
  expect(await readdir(job.folder)).not.toContain('exchange')
})

test('a helper that is killed in the middle changes nothing but the time', async () => {
  const job = again('helper killed')
  let home = ''
  const outcome = await pool.train(job, {
    onStart: (device) => (home = device),
    onEvent: (event) => {
      if (event.type === 'step' && event.step <= 2) kill(other(home))
    },
  })
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(differing(stateOf(job, last), stateOf(alone, last))).toEqual([])
})

test('a home that is killed in the middle: the job goes on from its last checkpoint, to the same weights', async () => {
  const job = again('home killed')
  const homes: string[] = []
  const steps: number[] = []
  const outcome = await pool.train(job, {
    onStart: (device) => homes.push(device),
    onEvent: (event) => {
      if (event.type !== 'step') return
      steps.push(event.step)
      if (event.step === 3 && homes.length === 1) kill(homes[0]!)
    },
  })
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(homes).toHaveLength(2)
  expect(steps).toEqual([1, 2, 3, 3, 4])
  expect(differing(stateOf(job, last), stateOf(alone, last))).toEqual([])
})

test('a job under which three devices die without a checkpoint in between is failed', async () => {
  const job = again('poison')
  const pause = new AbortController()
  await pool.train(job, { onEvent: ({ type }) => type === 'step' && pause.abort(), pause: pause.signal })
  let home = ''
  const training = pool.train(job, {
    onStart: (device) => (home = device),
    onEvent: ({ type }) => {
      if (type === 'stage_started') kill(home)
    },
  })
  await expect(training).rejects.toMatchObject({
    code: 'device_failed',
    message: expect.stringContaining('3 device processes died under the job poison'),
  })
  expect(await readdir(job.folder)).not.toContain('exchange')
})

test('a paused job goes on to the same weights; a cancelled one ends', async () => {
  const job = again('paused')
  const [pause, cancel] = [new AbortController(), new AbortController()]
  const onEvent = (event: TrainingEvent) => {
    if (event.type === 'step' && event.step === 1) pause.abort()
  }
  expect(await pool.train(job, { onEvent, pause: pause.signal })).toEqual({ kind: 'paused' })
  expect(await pool.train(job, { onEvent: () => cancel.abort(), cancel: cancel.signal })).toEqual({
    kind: 'cancelled',
  })
  expect(await pool.train(job, { onEvent: () => undefined })).toEqual({ kind: 'succeeded' })
  expect(differing(stateOf(job, last), stateOf(alone, last))).toEqual([])
})

test('what the trainer refuses is the error, in its words', async () => {
  const job = { ...again('no pictures'), manifest: join(cacheDir, 'nothing.jsonl') }
  await expect(pool.train(job, { onEvent: () => undefined })).rejects.toMatchObject({
    code: 'training_failed',
    message: expect.stringContaining('nothing.jsonl'),
  })
})

test('a checkpoint is exported on a device that has no model, and serves there', async () => {
  const out = join(cacheDir, 'exported')
  await pool.exportCheckpoint({ job: alone, checkpoint: `checkpoints/${last}`, out, form: 'model' })
  const info = await pool.deploy({ name: 'tuned', folder: out })
  expect(info.version).not.toBe((await pool.deploy({ name: 'base', folder: goldenBase('tiny-512') })).version)
  const request: ImageRequest = {
    id: 'picture',
    model: 'tuned',
    prompt: 'a kite',
    negativePrompt: '',
    width: 256,
    height: 256,
    seed: 5,
    seedIndex: 0,
    steps: 2,
    guidanceScale: 4.5,
    scheduler: 'dpm++_2m',
    cleanCaption: false,
    priority: 'normal',
  }
  expect((await pool.generate(request)).modelVersion).toBe(info.version)
  const costs = pool.trainingCosts('tuned')
  expect(costs.step.perUnitMs).toBeGreaterThan(0)
  expect(costs).toMatchObject({ devices: 2, weightBytes: pool.trainingCosts('base').weightBytes })
  await expect(
    pool.exportCheckpoint({ job: alone, checkpoint: 'checkpoints/none', out: `${out}-2`, form: 'model' }),
  ).rejects.toMatchObject({ code: 'export_failed' })
})
