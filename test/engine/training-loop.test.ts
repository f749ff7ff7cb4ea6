/** Jobs in the device's loop beside requests: who goes first, and how a job ends. The trainer is one that only keeps time. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { Jobs } from '../../src/engine/jobs.ts'
import { Loop } from '../../src/engine/loop.ts'
import { openDevice, type OpenedDevice } from '../../src/engine/open-device.ts'
import type { ChildMessage, ImageRequest } from '../../src/engine/protocol.ts'
import type { Trainer } from '../../src/engine/trainer.ts'
import type { TrainingHost, TrainingUnit } from '../../src/training/host.ts'
import type { TrainingJob, TrainingOutcome } from '../../src/training/job.ts'
import { waitFor as waitForPromise } from '../../src/training/units.ts'

const folder = fileURLToPath(new URL('../../models/tiny', import.meta.url))
let cacheDir: string
let device: OpenedDevice
/** What happened, in order: units of jobs by their names, and what was told. */
let log: (string | ChildMessage)[] = []

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-training-loop-'))
  device = await openDevice(
    { name: 'cpu', device: { provider: 'cpu' }, models: [{ name: 'tiny', folder }], cacheDir },
    () => {},
  )
})
afterAll(() => rm(cacheDir, { recursive: true }))
beforeEach(() => {
  log = []
})

const microStepMs = 5

/** Blocks the thread, as the library does. */
function compute(): void {
  const endMs = performance.now() + microStepMs
  while (performance.now() < endMs);
}

type Script = (job: TrainingJob, host: TrainingHost) => AsyncGenerator<TrainingUnit, TrainingOutcome>

/** Computes for ever, until it is told to pause. */
async function* endless({ id }: TrainingJob, host: TrainingHost): ReturnType<Script> {
  try {
    while (!host.pause.aborted) {
      compute()
      log.push(id)
      yield { kind: 'micro-step' }
    }
    log.push(`${id} saves`)
    yield { kind: 'save' }
    return { kind: 'paused' }
  } finally {
    log.push(`${id} leaves`)
  }
}

function start(script: Script, trainingShare = 0): { readonly loop: Loop; readonly jobs: Jobs } {
  const tell = (message: ChildMessage): void => void log.push(message)
  const loop = new Loop({ device: 'cpu', ...device, trainingShare, tell })
  const refuse = (): never => {
    throw new Error('not here')
  }
  const trainer: Trainer = { train: script, openAssistant: refuse, exportCheckpoint: refuse }
  const jobs = new Jobs({ background: loop.background, trainer, provider: device.provider, tell })
  void loop.run()
  return { loop, jobs }
}

const jobOf = (id: string) => ({ id, folder: join(cacheDir, id) }) as TrainingJob

const request = (id: string): ImageRequest => ({
  id,
  model: 'tiny',
  prompt: `prompt ${id}`,
  negativePrompt: '',
  width: 256,
  height: 256,
  seed: 1,
  seedIndex: 0,
  steps: 4,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  cleanCaption: false,
  priority: 'low',
})

const waitFor = (holds: () => boolean) => expect.poll(holds, { interval: 1, timeout: 30_000 }).toBe(true)
const isTold = (type: ChildMessage['type'], id?: string) => (entry: (typeof log)[number]) =>
  typeof entry !== 'string' && entry.type === type && (id === undefined || ('id' in entry && entry.id === id))
const newsOf = (job: string) =>
  log.flatMap((entry) =>
    typeof entry !== 'string' && entry.type === 'training' && entry.job === job ? [entry.news] : [],
  )
const ended = (kind: TrainingOutcome['kind']) => ({ kind: 'ended', outcome: { kind } })

test('a job has the device while no request is there, and gives way within one unit when one comes', async () => {
  const { loop, jobs } = start(endless)
  jobs.train(jobOf('job'), 0)
  await waitFor(() => log.filter((entry) => entry === 'job').length > 5)
  loop.submit(request('one'))
  const submitted = log.length
  await waitFor(() => log.some(isTold('succeeded', 'one')))
  const meanwhile = log.slice(submitted, log.findIndex(isTold('succeeded', 'one')))
  // None between its first step and its last.
  expect(meanwhile.filter((entry) => entry === 'job').length).toBeLessThanOrEqual(1)
  const before = log.length
  await waitFor(() => log.slice(before).includes('job'))
  jobs.cancel('job')
  await waitFor(() => newsOf('job').length === 2)
})

test('with a guaranteed share a job gets it while requests wait, and its device time is told apart from theirs', async () => {
  const { loop, jobs } = start(endless, 0.5)
  jobs.train(jobOf('job'), 0)
  for (let i = 0; i < 3; i++) loop.submit(request(`busy ${i}`))
  await waitFor(() => log.filter(isTold('succeeded')).length === 3)
  jobs.cancel('job')
  await waitFor(() => newsOf('job').length === 2)
  const units = log.filter((entry) => entry === 'job').length
  const load = () =>
    log.flatMap((entry) => (typeof entry !== 'string' && entry.type === 'load' ? [entry.load] : [])).at(-1)
  // Told at once when the device has nothing left to do, and now and then before.
  await waitFor(() => load()?.training.units === units)
  const { servingMs, training } = load()!
  expect(training.deviceMs).toBeGreaterThanOrEqual(training.units * microStepMs)
  expect(training.deviceMs / (training.deviceMs + servingMs)).toBeGreaterThan(0.4)
})

test('jobs on one device run one after another', async () => {
  const { jobs } = start(async function* ({ id }) {
    for (let unit = 0; unit < 3; unit++) {
      log.push(`${id} ${unit}`)
      yield { kind: 'micro-step' }
    }
    return { kind: 'succeeded' }
  })
  for (const id of ['a', 'b', 'c']) jobs.train(jobOf(id), 0)
  jobs.cancel('b')
  await waitFor(() => newsOf('c').length === 2)
  expect(log.filter((entry) => typeof entry === 'string')).toEqual(['a 0', 'a 1', 'a 2', 'c 0', 'c 1', 'c 2'])
  expect(newsOf('b')).toEqual([ended('cancelled')])
  expect(newsOf('c')).toEqual([{ kind: 'begun' }, ended('succeeded')])
})

test('while a job waits the device rests, and the job goes on when what it waits for is there', async () => {
  const arrival = Promise.withResolvers<void>()
  const { loop, jobs } = start(async function* () {
    yield { kind: 'wait', until: arrival.promise }
    log.push('goes on')
    yield { kind: 'micro-step' }
    return { kind: 'succeeded' }
  })
  jobs.train(jobOf('job'), 1)
  loop.submit(request('one'))
  await waitFor(() => log.some(isTold('succeeded', 'one')))
  expect(log).not.toContain('goes on')
  arrival.resolve()
  await waitFor(() => newsOf('job').length === 2)
  expect(log).toContain('goes on')
})

test('a job that is cancelled while it waits for the disk keeps nobody from the device', async () => {
  const written = Promise.withResolvers<void>()
  const { loop, jobs } = start(async function* () {
    log.push('writes')
    yield* waitForPromise(written.promise)
    return { kind: 'succeeded' }
  })
  jobs.train(jobOf('job'), 0)
  await waitFor(() => log.includes('writes'))
  jobs.cancel('job')
  loop.submit(request('one'))
  await waitFor(() => log.some(isTold('succeeded', 'one')))
  expect(newsOf('job')).toEqual([{ kind: 'begun' }])
  written.resolve()
  await waitFor(() => newsOf('job').length === 2)
  expect(newsOf('job').at(-1)).toEqual(ended('cancelled'))
})

test('a job that is to pause saves and ends; one that is cancelled ends at once; what it held is given back', async () => {
  const { jobs } = start(endless)
  jobs.train(jobOf('pausing'), 0)
  await waitFor(() => log.includes('pausing'))
  jobs.pause('pausing')
  await waitFor(() => newsOf('pausing').length === 2)
  expect(newsOf('pausing')).toEqual([{ kind: 'begun' }, ended('paused')])
  expect(log.filter((entry) => typeof entry === 'string').slice(-2)).toEqual([
    'pausing saves',
    'pausing leaves',
  ])

  jobs.train(jobOf('cancelled'), 0)
  await waitFor(() => log.includes('cancelled'))
  jobs.cancel('cancelled')
  await waitFor(() => newsOf('cancelled').length === 2)
  expect(newsOf('cancelled')).toEqual([{ kind: 'begun' }, ended('cancelled')])
  expect(log).toContain('cancelled leaves')
  expect(log).not.toContain('cancelled saves')
})

test('what a job fails with is told, and the next one runs', async () => {
  const { jobs } = start(async function* ({ id }) {
    yield { kind: 'micro-step' }
    if (id === 'bad') throw new Error('the pictures are gone')
    return { kind: 'succeeded' }
  })
  for (const id of ['bad', 'good']) jobs.train(jobOf(id), 0)
  await waitFor(() => newsOf('good').length === 2)
  expect(newsOf('bad')).toEqual([{ kind: 'begun' }, { kind: 'failed', message: 'the pictures are gone' }])
  expect(newsOf('good').at(-1)).toEqual(ended('succeeded'))
})
