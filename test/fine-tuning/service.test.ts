/** Jobs over the real database and queue, with a pool that takes steps and computes nothing. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import { keyless } from '../../src/access/caller.ts'
import { EngineError } from '../../src/engine/pool.ts'
import { modelsToServe } from '../../src/fine-tuning/deployments.ts'
import { maxCrashes } from '../../src/fine-tuning/runs.ts'
import { openContentPolicy } from '../../src/policy/service.ts'
import type { Tracing } from '../../src/tracing/tracing.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { configured, log, smallStage, useFineTuning } from './fixture.ts'
import { practicePool, stepMs, trainingFailed, type PracticePool } from './practice-pool.ts'

const isAlone = inject('database') === 'embedded'
const fixture = useFineTuning()
let pool: PracticePool
beforeEach(async () => {
  pool = practicePool()
  await fixture.start(pool)
})

const jobFolder = (id: string) => join(fixture.dataDir, 'fine-tuning', id)
const rows = () => fixture.storage.database.prisma.fineTuningJob
const typesOf = async (id: string) => (await fixture.eventsOf(id)).map(({ details }) => details.type)
const steps = (count: number) => ({ stages: [{ ...smallStage, steps: count }] })

/** Holds every job before that step until it is let go. */
function holdBefore(step: number): () => void {
  const { promise, resolve } = Promise.withResolvers<void>()
  pool.beforeStep = (at) => (at === step ? promise : undefined)
  return () => {
    pool.beforeStep = () => undefined
    resolve()
  }
}
const heldAt = (id: string, step: number) =>
  expect
    .poll(async () => (await fixture.service.find(id))!.progress.step, { timeout: 10_000, interval: 20 })
    .toBe(step)

describe('a job', () => {
  test('is validated, queued, run and ended, and tells of each', async () => {
    const { id, state } = await fixture.create(steps(3))
    expect(state).toBe('validating')
    const job = await fixture.until(id, 'succeeded')
    expect(job).toMatchObject({
      progress: { step: 3, steps: 3 },
      pictures: { used: 12, leftOut: 0 },
      usage: { deviceMs: 3 * stepMs, joules: (100 * 3 * stepMs) / 1000, energySource: 'configured' },
      error: undefined,
    })
    expect(job.reports).toMatchObject([
      { stage: 0, deviceMs: 3 * stepMs, joules: 30, heldOut: { lossAfter: 1 } },
    ])
    expect(await typesOf(id)).toEqual([
      'created',
      'validated',
      'queued',
      'started',
      'stage_started',
      'metrics',
      'metrics',
      'stage_finished',
      'checkpoint',
      'succeeded',
    ])
    expect(existsSync(join(jobFolder(id), 'manifest.jsonl'))).toBe(true)
  })

  test('that made the model worse succeeds with a warning', async () => {
    pool.lossAfter = 3
    onTestFinished(() => void (pool.lossAfter = 1))
    const { id } = await fixture.create()
    await fixture.until(id, 'succeeded')
    const warnings = (await fixture.eventsOf(id)).filter(({ level }) => level === 'warn')
    expect(warnings).toMatchObject([
      { message: expect.stringMatching(/^Stage 1 made the model worse: .* from 2\.000 to 3\.000;/) },
    ])
  })

  test('waits for the ones before it, and the oldest goes first', async () => {
    const letGo = holdBefore(1)
    const first = await fixture.create()
    await fixture.until(first.id, 'running')
    const second = await fixture.create()
    await fixture.until(second.id, 'queued')
    const third = await fixture.create()
    await fixture.until(third.id, 'queued')
    letGo()
    await fixture.until(third.id, 'succeeded')
    expect(pool.begun.map(({ id }) => id)).toEqual([first.id, second.id, third.id])
  })

  test('that fails says why, and the next one runs', async () => {
    pool.beforeStep = (step) => {
      if (step === 2) throw trainingFailed('the loss is no number after step 2')
    }
    const { id } = await fixture.create()
    const job = await fixture.until(id, 'failed')
    expect(job.error).toEqual({ code: 'training_failed', message: 'the loss is no number after step 2' })
    expect((await fixture.service.metrics(id, {})).data.map(({ step }) => step)).toEqual([1])
    pool.beforeStep = () => undefined
    await fixture.until((await fixture.create()).id, 'succeeded')
  })

  test('keeps the dataset until it ends', async () => {
    const letGo = holdBefore(1)
    const { id } = await fixture.create()
    await fixture.until(id, 'running')
    await expect(fixture.datasets.delete(fixture.datasetId)).rejects.toMatchObject({ code: 'in_use' })
    letGo()
    await fixture.until(id, 'succeeded')
  })
})

test("a sample's prompt that the content policy does not allow refuses the job", async () => {
  const file = join(temporaryFolder(), 'list.txt')
  writeFileSync(file, 'bomb\n')
  const moderation = undefined
  const policy = await openContentPolicy({ blockListFile: file, moderation, onFailure: 'refuse', log })
  await fixture.start(practicePool(), { policy })
  const idsOf = async () => (await fixture.service.list({})).data.map(({ id }) => id)
  const before = await idsOf()
  const prompts = ['a cactus', 'a b0mb'].map((prompt) => ({ prompt, seed: 1 }))
  await expect(fixture.create({ samples: { prompts } })).rejects.toMatchObject({
    code: 'content_policy_violation',
    parameter: 'samples.prompts[1].prompt',
  })
  expect(await idsOf()).toEqual(before)
})

describe('a pause', () => {
  test('of a running job saves first, and resuming goes on from there', async () => {
    const letGo = holdBefore(3)
    const { id } = await fixture.create(steps(5))
    await heldAt(id, 2)
    expect(await fixture.service.pause(id)).toMatchObject({ state: 'running', pauseAsked: true })
    const paused = await fixture.until(id, 'paused')
    expect(paused).toMatchObject({ pauseAsked: false, progress: { step: 2 }, expectedEnd: undefined })
    letGo()
    await fixture.service.resume(id)
    const job = await fixture.until(id, 'succeeded')
    expect(job.attempt).toBe(2)
    expect(pool.begun).toEqual([
      { id, after: 0 },
      { id, after: 2 },
    ])
    expect((await fixture.service.metrics(id, {})).data.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5])
    const types = await typesOf(id)
    expect(types).toEqual(expect.arrayContaining(['pausing', 'paused', 'resumed']))
    // What the second run goes on from was told by the first.
    expect(types.filter((type) => type === 'checkpoint')).toHaveLength(2)
  })

  test('between two stages leaves what was told of the first as it is', async () => {
    const letGo = holdBefore(3)
    const { id } = await fixture.create({ stages: [smallStage, smallStage] })
    await heldAt(id, 2)
    await fixture.service.pause(id)
    const paused = await fixture.until(id, 'paused')
    expect(paused.reports).toMatchObject([{ stage: 0, joules: 20 }])
    letGo()
    await fixture.service.resume(id)
    const { reports } = await fixture.until(id, 'succeeded')
    expect(reports).toMatchObject([paused.reports[0], { stage: 1, joules: 20 }])
    expect((await typesOf(id)).filter((type) => type === 'stage_finished')).toHaveLength(2)
  })

  test('of a job that waits takes it out of the queue', async () => {
    const letGo = holdBefore(1)
    const first = await fixture.create()
    // Whichever of two is read first is begun first.
    await fixture.until(first.id, 'running')
    const second = await fixture.create()
    await fixture.until(second.id, 'queued')
    expect(await fixture.service.pause(second.id)).toMatchObject({ state: 'paused' })
    const third = await fixture.create()
    letGo()
    await fixture.until(third.id, 'succeeded')
    await fixture.until(first.id, 'succeeded')
    expect(await fixture.service.find(second.id)).toMatchObject({ state: 'paused', attempt: 0 })
    expect(await fixture.service.resume(second.id)).toMatchObject({ state: 'queued' })
    await fixture.until(second.id, 'succeeded')
  })

  test('of a job that has ended is refused', async () => {
    const { id } = await fixture.create()
    await fixture.until(id, 'succeeded')
    await expect(fixture.service.pause(id)).rejects.toMatchObject({ code: 'wrong_state' })
    await expect(fixture.service.resume(id)).rejects.toMatchObject({ code: 'wrong_state' })
    expect(await fixture.service.cancel(id)).toMatchObject({ state: 'succeeded' })
  })
})

test('a cancelled job ends at once, and nothing is written for it any more', async () => {
  const letGo = holdBefore(3)
  const { id } = await fixture.create(steps(5))
  await heldAt(id, 2)
  expect(await fixture.service.cancel(id)).toMatchObject({ state: 'cancelled' })
  letGo()
  await fixture.until((await fixture.create()).id, 'succeeded')
  expect(await fixture.service.find(id)).toMatchObject({ state: 'cancelled', progress: { step: 2 } })
  expect((await typesOf(id)).at(-1)).toBe('cancelled')
})

describe('a server', () => {
  test('that stops saves the job, and the next one goes on with it', async () => {
    holdBefore(3)
    const { id } = await fixture.create(steps(5))
    await heldAt(id, 2)
    const next = practicePool()
    await fixture.start(next)
    const job = await fixture.until(id, 'succeeded')
    expect(job).toMatchObject({ attempt: 2, state: 'succeeded' })
    expect(next.begun).toEqual([{ id, after: 2 }])
  })

  /** As a kill leaves it: running in the row, and nothing of the last half second written. */
  async function killedIn(count: number): Promise<string> {
    holdBefore(3)
    const { id } = await fixture.create({ ...steps(count), checkpointEvery: 2 })
    await heldAt(id, 2)
    const { attempt } = (await fixture.service.find(id))!
    await fixture.start(practicePool()).then(() => fixture.until(id, 'succeeded'))
    for (const folder of readdirSync(join(jobFolder(id), 'checkpoints')).slice(1))
      rmSync(join(jobFolder(id), 'checkpoints', folder), { recursive: true })
    await rows().update({
      where: { id },
      data: { state: 'running', finishedAt: null, attempt, crashes: 0, step: 3 },
    })
    return id
  }

  test('that died in the middle leaves a job that is taken up by itself, and no step is counted twice', async () => {
    const id = await killedIn(4)
    const next = practicePool()
    await fixture.start(next)
    const job = await fixture.until(id, 'succeeded')
    expect(next.begun).toEqual([{ id, after: 2 }])
    expect((await fixture.service.metrics(id, {})).data.map(({ step }) => step)).toEqual([1, 2, 3, 4])
    expect((await fixture.service.checkpoints(id, {})).data.map(({ step }) => step)).toEqual([4, 2])
    expect(job.reports).toHaveLength(1)
    expect(await rows().findUnique({ where: { id } })).toMatchObject({ crashes: 0 })
  })

  test('finds checkpoints that nobody came to write down', async () => {
    const id = await killedIn(4)
    await fixture.storage.database.prisma.fineTuningCheckpoint.deleteMany({ where: { jobId: id } })
    await fixture.start(practicePool())
    await fixture.until(id, 'succeeded')
    expect((await fixture.service.checkpoints(id, {})).data.map(({ step }) => step)).toEqual([4, 2])
  })

  test('that died too often under a job gives it up', async () => {
    const id = await killedIn(4)
    await rows().update({ where: { id }, data: { crashes: maxCrashes - 1 } })
    await fixture.start(pool)
    expect(await fixture.service.find(id)).toMatchObject({
      state: 'failed',
      error: { code: 'server_failed' },
    })
  })

  test('that goes on from a checkpoint that was told before is not taken to have got any further', async () => {
    const id = await killedIn(4)
    await rows().update({ where: { id }, data: { crashes: 2 } })
    await fixture.storage.database.prisma.fineTuningMetric.deleteMany()
    const next = practicePool()
    const { promise: held, resolve } = Promise.withResolvers<void>()
    next.beforeStep = (step) => (step === 4 ? held : undefined)
    await fixture.start(next)
    await expect
      .poll(async () => (await fixture.service.metrics(id, {})).data.map(({ step }) => step))
      .toEqual([3])
    expect(await rows().findUnique({ where: { id } })).toMatchObject({ crashes: 3 })
    resolve()
    await fixture.until(id, 'succeeded')
  })

  test('that died under a job that was to pause leaves it paused, and says so', async () => {
    const id = await killedIn(4)
    const expectedEnd = new Date()
    await rows().update({ where: { id }, data: { pauseAsked: true, expectedEnd } })
    await fixture.start(practicePool())
    expect(await fixture.service.find(id)).toMatchObject({ state: 'paused', expectedEnd: undefined })
    expect((await typesOf(id)).at(-1)).toBe('paused')
  })

  test('goes on with a validation that was cut short', async () => {
    const { id } = await fixture.create()
    await fixture.until(id, 'succeeded')
    await rows().update({ where: { id }, data: { state: 'validating', finishedAt: null, step: 0 } })
    rmSync(jobFolder(id), { recursive: true })
    await fixture.start(pool)
    await fixture.until(id, 'succeeded')
    expect(existsSync(join(jobFolder(id), 'manifest.jsonl'))).toBe(true)
  })

  test('removes folders that no row knows, where no other process may be making them', async () => {
    const [job, deployment] = ['fine-tuning/ftjob_', 'models/dep_'].map((prefix) => prefix + 'ab'.repeat(16))
    const unknown = [job!, deployment!, `${deployment}.${'0'.repeat(16)}.tmp`]
    // Whoever keeps other things there, as where the data folder is the project's own, keeps them.
    const others = ['fine-tuning/notes', 'models/tiny']
    for (const folder of [...unknown, ...others])
      mkdirSync(join(fixture.dataDir, folder), { recursive: true })
    await fixture.start(pool)
    const isThere = (folder: string) => existsSync(join(fixture.dataDir, folder))
    expect(unknown.map(isThere)).toEqual(unknown.map(() => !isAlone))
    expect(others.map(isThere)).toEqual([true, true])
  })
})

describe('bad data', () => {
  const good = () => fixture.datasets.items(fixture.datasetId)

  test('fails a job with one message that names it, or is skipped, as asked', async () => {
    expect((await good()).data).toHaveLength(12)
    const { picture } = await import('../datasets/pictures.ts')
    const files = { 'a.png': await picture(1), 'a.txt': 'a picture', 'b.png': 'no picture at all' }
    const datasetId = await fixture.addDataset('with a bad file', files)
    await expect(fixture.create({}, { datasetId })).rejects.toMatchObject({
      code: 'invalid_job',
      parameter: 'dataset',
      message: expect.stringMatching(/^1 files .*b\.png: .*on_bad_data "skip"$/),
    })
    const skipping = await fixture.create({}, { datasetId, onBadData: 'skip' })
    expect(await fixture.until(skipping.id, 'succeeded')).toMatchObject({ pictures: { used: 1, leftOut: 1 } })
  })

  test('is a caption that is empty, until it is mended', async () => {
    const { picture } = await import('../datasets/pictures.ts')
    const files = { 'a.png': await picture(1), 'a.txt': 'a picture', 'b.png': await picture(2), 'b.txt': ' ' }
    const datasetId = await fixture.addDataset('with an empty caption', files)
    await expect(fixture.create({}, { datasetId })).rejects.toThrow(/^1 files .*b\.txt: empty_caption/)
    const [, second] = (await fixture.datasets.items(datasetId)).data
    await fixture.datasets.changeItem(datasetId, second!.id, { captions: ['another one'] })
    await fixture.until((await fixture.create({}, { datasetId })).id, 'succeeded')
  })

  test('is a filter that leaves no picture', async () => {
    const stages = [smallStage, { ...smallStage, minAestheticScore: 5.51 }]
    await expect(fixture.create({ stages })).rejects.toMatchObject({
      code: 'invalid_job',
      message: 'stages.1.filter.min_aesthetic_score: no picture of 12 has an aesthetic score of 5.51 or more',
    })
    const least = { ...smallStage, minAestheticScore: 5.5 }
    await fixture.until((await fixture.create({ stages: [least], heldOutShare: 0 })).id, 'succeeded')
  })

  test('is what a stage conditions on where pictures lack it, but for a vae', async () => {
    const { picture } = await import('../datasets/pictures.ts')
    const files = { 'a.png': await picture(1), 'a.txt': 'a picture', 'b.png': await picture(2) }
    const datasetId = await fixture.addDataset('half', files)
    const only = (change: object) => ({
      stages: [{ ...smallStage, ...change }],
      start: { kind: 'random' } as const,
    })
    await expect(fixture.create(only({ kind: 'pixel' }), { datasetId })).rejects.toThrow(
      'stages.0.train.condition: it trains on labels, and 2 of 2 pictures have none',
    )
    const bare = await fixture.addDataset('bare', { 'b.png': files['b.png'] })
    await expect(fixture.create(only({ kind: 'align' }), { datasetId: bare })).rejects.toThrow(
      'stages.0.train.condition: it trains on captions, and none of 1 pictures has one',
    )
    for (const [change, request] of [
      [{ kind: 'align' }, { datasetId }],
      [{ kind: 'pixel', condition: 'none' }, { datasetId: bare }],
      [{ kind: 'vae' }, { datasetId: bare }],
    ] as const)
      await fixture.until((await fixture.create(only(change), request)).id, 'succeeded')
  })

  test('is found in the snapshot, where the dataset was another when the job was created', async () => {
    const { picture } = await import('../datasets/pictures.ts')
    const line = JSON.stringify({ file_name: 'a.png', text: 'a picture', aesthetic_score: 6 })
    const files = { 'a.png': await picture(1), 'captions.jsonl': `${line}\n` }
    const datasetId = await fixture.addDataset('scored', files)
    const [item] = (await fixture.datasets.items(datasetId)).data
    // The row commits before the snapshot begins; the change comes in between.
    const { datasets } = fixture
    const mine = datasets.of(keyless)
    const of = vi.spyOn(datasets, 'of').mockReturnValue({
      ...mine,
      async snapshot(id, file) {
        await mine.changeItem(id, item!.id, { aestheticScore: 1 })
        return mine.snapshot(id, file)
      },
    })
    onTestFinished(() => of.mockRestore())
    const { id } = await fixture.create({ stages: [{ ...smallStage, minAestheticScore: 5 }] }, { datasetId })
    expect((await fixture.until(id, 'failed')).error).toEqual({
      code: 'bad_dataset',
      message: 'stages.0.filter.min_aesthetic_score: no picture of 1 has an aesthetic score of 5 or more',
    })
  })

  test('is a dataset that is not there, or none', async () => {
    await expect(fixture.create({}, { datasetId: 'ds_none' })).rejects.toMatchObject({
      code: 'unknown_dataset',
    })
    const empty = await fixture.addDataset('empty', { 'read.me': 'nothing to see' })
    await expect(fixture.create({}, { datasetId: empty })).rejects.toMatchObject({
      code: 'invalid_job',
      parameter: 'dataset',
    })
    await expect(fixture.create({}, { model: 'sdxl' })).rejects.toMatchObject({ code: 'unknown_model' })
  })
})

test('metrics can be asked for from a step on, thinned and in pages', async () => {
  const { id } = await fixture.create({
    stages: [
      { ...smallStage, steps: 7 },
      { ...smallStage, steps: 5 },
    ],
  })
  await fixture.until(id, 'succeeded')
  const stepsOf = async (options: object) => {
    const { data, hasMore } = await fixture.service.metrics(id, options)
    return [data.map(({ step }) => step), hasMore]
  }
  expect(await stepsOf({ after: 9 })).toEqual([[10, 11, 12], false])
  expect(await stepsOf({ every: 4 })).toEqual([[4, 8, 12], false])
  expect(await stepsOf({ after: 1, limit: 3 })).toEqual([[2, 3, 4], true])
  const [eighth] = (await fixture.service.metrics(id, { after: 7, limit: 1 })).data
  expect(eighth).toEqual({
    step: 8,
    stage: 1,
    stageStep: 1,
    loss: 0.125,
    gradientNorm: 2,
    learningRate: 1e-4,
    imagesPerSecond: 20,
    deviceMs: 100,
  })
})

test('between stages the last checkpoints stay, and rows and folders agree', async () => {
  const { id } = await fixture.create({
    stages: [
      { ...smallStage, steps: 5 },
      { ...smallStage, steps: 6 },
    ],
    checkpointEvery: 1,
    keepCheckpoints: 2,
  })
  await fixture.until(id, 'succeeded')
  const { data } = await fixture.service.checkpoints(id, {})
  expect(data.map(({ folder }) => folder.slice('checkpoints/'.length)).toReversed()).toEqual(
    readdirSync(join(jobFolder(id), 'checkpoints')).sort(),
  )
  const page = await fixture.service.checkpoints(id, { limit: 1, after: data[0]!.id })
  expect(page).toMatchObject({ data: [{ id: data[1]!.id }], hasMore: true })
})

test('jobs come in pages, newest first, and by their state', async () => {
  const ids = []
  for (let index = 0; index < 3; index++) ids.unshift((await fixture.create()).id)
  for (const id of ids) await fixture.until(id, 'succeeded')
  const first = await fixture.service.list({ limit: 2 })
  expect(first).toMatchObject({ data: [{ id: ids[0] }, { id: ids[1] }], hasMore: true })
  const { data } = await fixture.service.list({ limit: 1, after: first.data[1]!.id })
  expect(data[0]?.id).toBe(ids[2])
  expect((await fixture.service.list({ state: 'queued' })).data).toEqual([])
  await expect(fixture.service.list({ after: 'ftjob_none' })).rejects.toMatchObject({ code: 'job_not_found' })
})

test('whoever listens hears every event once, from where they were', async () => {
  const letGo = holdBefore(2)
  const { id } = await fixture.create()
  const heard = Array.fromAsync(fixture.service.streamEvents(id))
  await fixture.until(id, 'running')
  letGo()
  const events = await heard
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1))
  expect(events.at(-1)?.details.type).toBe('succeeded')
  const rest = await Array.fromAsync(fixture.service.streamEvents(id, { after: events.length - 2 }))
  expect(rest).toEqual(events.slice(-2))
})

test('a deleted job leaves nothing behind; one that has not ended stays', async () => {
  const letGo = holdBefore(1)
  const { id } = await fixture.create()
  await fixture.until(id, 'running')
  await expect(fixture.service.delete(id)).rejects.toMatchObject({ code: 'wrong_state' })
  letGo()
  await fixture.until(id, 'succeeded')
  await fixture.service.delete(id)
  expect(await fixture.service.find(id)).toBeUndefined()
  expect(existsSync(jobFolder(id))).toBe(false)
  await expect(fixture.service.delete(id)).rejects.toMatchObject({ code: 'job_not_found' })
})

describe('deployments', () => {
  async function trained(): Promise<{ id: string; checkpoint: string }> {
    const { id } = await fixture.create()
    await fixture.until(id, 'succeeded')
    return { id, checkpoint: (await fixture.service.checkpoints(id, {})).data[0]!.id }
  }
  const deploy = async (name?: string) => {
    const { id, checkpoint } = await trained()
    return fixture.service.deploy(id, checkpoint, name)
  }
  const serving = (name: string) => pool.served.get(name)

  test('take a name over and are rolled back one by one, down to the configured model', async () => {
    const { deployments } = fixture.service
    const first = await deploy('tiny-512')
    const second = await deploy('tiny-512')
    expect(serving('tiny-512')).toBe(second.folder)
    expect((await deployments.get(first.id)).state).toBe('superseded')
    expect(await deployments.rollback('tiny-512')).toMatchObject({ id: first.id, state: 'live' })
    expect(serving('tiny-512')).toBe(first.folder)
    const third = await deploy('tiny-512')
    await deployments.rollback('tiny-512')
    expect(serving('tiny-512')).toBe(first.folder)
    expect(await deployments.rollback('tiny-512')).toBeUndefined()
    expect(serving('tiny-512')).toBe(configured[0].folder)
    await expect(deployments.rollback('tiny-512')).rejects.toMatchObject({ code: 'nothing_to_roll_back' })
    const { data } = await deployments.list({ name: 'tiny-512' })
    expect(data.map(({ id, state }) => [id, state])).toEqual([
      [third.id, 'rolled_back'],
      [second.id, 'rolled_back'],
      [first.id, 'rolled_back'],
    ])
  })

  test('under a new name can be withdrawn and not rolled back', async () => {
    const { deployments } = fixture.service
    const { id, name } = await deploy()
    expect(name).toMatch(/^tiny-512-[0-9a-f]{8}$/)
    await expect(deployments.rollback(name)).rejects.toMatchObject({ code: 'nothing_to_roll_back' })
    expect(await deployments.withdraw(name)).toMatchObject({ id, state: 'withdrawn' })
    expect(pool.served.has(name)).toBe(false)
  })

  test('that serve keep their job and themselves; others can be deleted', async () => {
    const { deployments } = fixture.service
    const { id, jobId, folder } = await deploy('beside')
    await expect(fixture.service.delete(jobId)).rejects.toMatchObject({ code: 'in_use' })
    await expect(deployments.delete(id)).rejects.toMatchObject({ code: 'in_use' })
    await deployments.withdraw('beside')
    await deployments.delete(id)
    expect(existsSync(folder)).toBe(false)
    await fixture.service.delete(jobId)
  })

  test('are what a server serves when it starts again; one whose files are gone is withdrawn, unless others may have them', async () => {
    const live = await deploy('tiny-512')
    const beside = await deploy('beside')
    expect(await modelsToServe(fixture.storage, configured, log)).toEqual([
      { name: 'tiny-512', folder: live.folder },
      { name: 'beside', folder: beside.folder },
    ])
    rmSync(beside.folder, { recursive: true })
    expect(await modelsToServe(fixture.storage, configured, log)).toEqual([
      { name: 'tiny-512', folder: live.folder },
    ])
    const { state } = await fixture.service.deployments.get(beside.id)
    expect(state).toBe(isAlone ? 'withdrawn' : 'live')
    await fixture.service.deployments.withdraw('tiny-512')
  })

  test('are made without a rollback having to wait', async () => {
    const { id } = await fixture.create()
    await fixture.until(id, 'succeeded')
    const { promise: made, resolve } = Promise.withResolvers<void>()
    const unhindered = practicePool()
    pool.exportCheckpoint = async (order) => {
      await made
      return unhindered.exportCheckpoint(order)
    }
    const deploying = fixture.service.deploy(id, 'latest', 'tiny-512')
    await expect(fixture.service.deployments.rollback('tiny-512')).rejects.toMatchObject({
      code: 'nothing_to_roll_back',
    })
    resolve()
    expect(await deploying).toMatchObject({ name: 'tiny-512', state: 'live' })
  })

  test('that cannot be made change nothing and leave nothing', async () => {
    const { id, checkpoint } = await trained()
    const before = readdirSync(join(fixture.dataDir, 'models'))
    pool.refuse = new EngineError('export_failed', 'no space left on the device')
    await expect(fixture.service.deploy(id, checkpoint, 'beside')).rejects.toMatchObject({
      code: 'export_failed',
      message: 'no space left on the device',
    })
    expect(pool.served.has('beside')).toBe(false)
    expect(readdirSync(join(fixture.dataDir, 'models'))).toEqual(before)
  })

  test('are what a job begins with that is created after them', async () => {
    const live = await deploy('tiny-512')
    const { base, id } = await fixture.create()
    expect(base).toBe(live.folder)
    await fixture.until(id, 'succeeded')
    await fixture.service.deployments.withdraw('tiny-512')
  })
})

test('figures count jobs by state and what was trained', async () => {
  const before = await fixture.service.figures()
  const { id } = await fixture.create(steps(4))
  await fixture.until(id, 'succeeded')
  const after = await fixture.service.figures()
  expect(after.jobs.succeeded).toBe(before.jobs.succeeded + 1)
  expect(after).toMatchObject({ steps: 4, images: 8, running: [] })
})

test('a run is traced with its stages, and told how it ended', async () => {
  const told: unknown[] = []
  const tracing = {
    run: (run: object) => {
      told.push(run)
      return {
        stageStarted: (...stage: unknown[]) => told.push(stage),
        stageFinished: (taken: number) => told.push(taken),
        end: (outcome: string) => told.push(outcome),
      }
    },
  } as unknown as Tracing
  await fixture.start(pool, { tracing })
  const { id } = await fixture.create(steps(3))
  await fixture.until(id, 'succeeded')
  await expect.poll(() => told).toEqual([{ id, attempt: 1, model: 'tiny-512' }, [0, 'align'], 3, 'succeeded'])
})

test('figures tell how far a job is as long as it runs', async () => {
  const letGo = holdBefore(4)
  const { id } = await fixture.create(steps(5))
  await heldAt(id, 3)
  expect((await fixture.service.figures()).running).toEqual([
    { id, step: 3, steps: 5, loss: expect.any(Number), imagesPerSecond: expect.any(Number) },
  ])
  letGo()
  await fixture.until(id, 'succeeded')
  await expect.poll(async () => (await fixture.service.figures()).running).toEqual([])
})
