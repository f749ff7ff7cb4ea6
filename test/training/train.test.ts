import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { sessions } from './serving.ts'
import { anyTime, checkpointsOf, differing, ofType, oneStage, run, smallJob, stateOf } from './small-run.ts'

test('a job in two stages trains, tells what it does, and leaves its checkpoints', async () => {
  const job = await smallJob()
  const { events, outcome } = await run(job)
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(ofType(events, 'step').map(({ stage, step }) => [stage, step])).toEqual([
    [0, 1],
    [0, 2],
    [0, 3],
    [1, 1],
    [1, 2],
  ])
  for (const { loss, gradientNorm, imagesPerSecond, etaMs } of ofType(events, 'step')) {
    expect(loss).toBeGreaterThan(0)
    expect(gradientNorm).toBeGreaterThan(0)
    expect(imagesPerSecond).toBeGreaterThan(0)
    expect(etaMs).toBeGreaterThanOrEqual(0)
  }
  expect(ofType(events, 'step').at(-1)!.etaMs).toBe(0)
  expect(ofType(events, 'stage_started')).toEqual([
    { type: 'stage_started', stage: 0, kind: 'align', microBatch: 4 },
    { type: 'stage_started', stage: 1, kind: 'aesthetic', microBatch: 4 },
  ])
  const reports = ofType(events, 'stage_finished')
  expect(reports.map(({ steps, pictures, heldOut }) => [steps, pictures, heldOut?.pictures])).toEqual([
    [3, 10, 2],
    [2, 10, 2],
  ])
  for (const { largestChange, heldOut } of reports) {
    expect(largestChange.relative).toBeGreaterThan(0)
    expect(heldOut!.lossAfter).not.toBe(heldOut!.lossBefore)
  }
  // A stage begins with what the one before it has left.
  expect(await checkpointsOf(job)).toEqual(['00-000002', '00-000003', '01-000001', '01-000002'])
  expect(JSON.parse(await readFile(join(job.folder, 'plan.json'), 'utf8'))).toEqual({
    version: 1,
    microBatches: { 0: 4, 1: 4 },
  })
})

test('a run that is left at any yield ends with the same bits as one that is not', async () => {
  const job = await smallJob()
  const whole = await run(job)
  const expected = stateOf(job, '01-000002')
  await rm(job.folder, { recursive: true })
  let random = 1
  const left: string[] = []
  for (let runs = 0; ; runs++) {
    random = (random * 48271) % 0x7fffffff
    // Short at first; then there must be an end.
    const leaveAt = Math.floor((random / 0x7fffffff) * whole.units.length * (runs < 6 ? 0.5 : 2))
    const { outcome, units } = await run(job, { leaveAt })
    if (outcome) break
    left.push(units.at(-1)!)
  }
  expect(left.length).toBeGreaterThan(3)
  expect(differing(stateOf(job, '01-000002'), expected)).toEqual([])
})

test('a pause saves the last finished step and is gone on with', async () => {
  // Four micro-batches in each step, so that it comes in the middle of one.
  const job = await smallJob({ checkpointEvery: 100, maxMicroStepMs: 0 })
  await run(job)
  const expected = stateOf(job, '01-000002')
  await rm(job.folder, { recursive: true })
  const pause = new AbortController()
  const paused = await run(job, {
    host: { pause: pause.signal },
    between: (_unit, { events }) => {
      if (ofType(events, 'step').length === 2) pause.abort()
    },
  })
  expect(paused.outcome).toEqual({ kind: 'paused' })
  expect(await checkpointsOf(job)).toEqual(['00-000002'])
  const { outcome, events } = await run(job)
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(ofType(events, 'step').map(({ stage, step }) => [stage, step])).toEqual([
    [0, 3],
    [1, 1],
    [1, 2],
  ])
  expect(differing(stateOf(job, '01-000002'), expected)).toEqual([])
})

test('a pause before the first step of a stage leaves what the stage before it has left, and no other checkpoint', async () => {
  const job = await smallJob({ checkpointEvery: 100, maxMicroStepMs: 0 })
  const pause = new AbortController()
  const paused = await run(job, {
    host: { pause: pause.signal },
    between: (_unit, { events }) => {
      if (ofType(events, 'stage_started').length === 2) pause.abort()
    },
  })
  expect(paused.outcome).toEqual({ kind: 'paused' })
  expect(await checkpointsOf(job)).toEqual(['00-000003'])
  const { outcome, events } = await run(job)
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(ofType(events, 'step').map(({ stage, step }) => [stage, step])).toEqual([
    [1, 1],
    [1, 2],
  ])
  const [, { heldOut } = {}] = ofType(events, 'stage_finished')
  expect(heldOut!.lossBefore).toBeGreaterThan(0)
})

test('a pause is not kept waiting by what is measured or judged before the first step', async () => {
  const runsBefore = async (phase: 'step' | 'loss') => {
    const pause = new AbortController()
    let runs = 0
    const { outcome } = await run(await smallJob(), {
      host: {
        pause: pause.signal,
        openSession: async (graph, needs) => {
          const session = await sessions.openSession(graph, needs)
          if (!graph.name.endsWith(`_${phase}`)) return session
          const counted: typeof session.run = (feeds, into) => {
            runs += 1
            pause.abort()
            return session.run(feeds, into)
          }
          return { ...session, run: counted }
        },
      },
    })
    expect(outcome).toEqual({ kind: 'paused' })
    return runs
  }
  expect(await runsBefore('step')).toBe(1)
  expect(await runsBefore('loss')).toBe(1)
})

test('micro-batches that the device has no memory for are not taken, and that is told', async () => {
  const job = await smallJob()
  const { events, outcome } = await run(job, {
    host: {
      openSession: async (graph, needs) => {
        const session = await sessions.openSession(graph, needs)
        const run: typeof session.run = (feeds, into) =>
          feeds['tokens']?.dims[0] === 4
            ? Promise.reject(new Error('Failed to allocate memory'))
            : session.run(feeds, into)
        return { ...session, run }
      },
    },
  })
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(ofType(events, 'stage_started').map(({ microBatch }) => microBatch)).toEqual([2, 2])
  expect(ofType(events, 'note').map(({ message }) => message)).toEqual([
    'stage 1: fewer than 4 pictures a micro-step, which are too many: Failed to allocate memory',
    'stage 2: fewer than 4 pictures a micro-step, which are too many: Failed to allocate memory',
  ])
})

test('thirty steps lower the loss, on pictures that were held out as well', async () => {
  const options = { steps: 30, batchSize: 8, learningRate: 3e-3, emaDecay: 0.8 }
  const { events } = await run(await oneStage(options, { maxMicroStepMs: anyTime, checkpointEvery: 100 }))
  const losses = ofType(events, 'step').map(({ loss }) => loss)
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length
  expect(mean(losses.slice(-5))).toBeLessThan(0.7 * mean(losses.slice(0, 5)))
  const [{ heldOut } = {}] = ofType(events, 'stage_finished')
  expect(heldOut!.lossAfter).toBeLessThan(0.7 * heldOut!.lossBefore)
})
