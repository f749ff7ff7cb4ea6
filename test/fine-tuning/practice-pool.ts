/** A pool for tests of what surrounds a job: it takes steps that compute nothing, saves folders that hold next to nothing, and goes on from them. */
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import sharp from 'sharp'
import { EngineError, type ModelInfo, type Pool, type TrainOptions } from '../../src/engine/pool.ts'
import type { TrainingJob, TrainingOutcome } from '../../src/training/job.ts'
import { paintModel, paintPool } from '../generation/paint-pool.ts'

export interface PracticePool extends Pool {
  /** Jobs in the order in which they were begun, with the step that they began after. */
  readonly begun: { readonly id: string; readonly after: number }[]
  /** Stands in the way of a step, or throws in its place. Counted through all stages, from 1. */
  beforeStep: (step: number, job: TrainingJob) => Promise<void> | void
  /** On pictures held out, at the end of every stage; 2 before it. */
  lossAfter: number
  /** What serves, by name. */
  readonly served: ReadonlyMap<string, string>
  /** Thrown by the next export or deployment. */
  refuse: EngineError | undefined
}

export function practicePool(names: readonly string[] = ['tiny-512']): PracticePool {
  const served = new Map(names.map((name) => [name, 'as configured']))
  let deviceMs = 0
  const infoOf = (name: string): ModelInfo => ({ ...paintModel, name, version: served.get(name) ?? '' })
  const refuseOnce = () => {
    const { refuse } = pool
    pool.refuse = undefined
    if (refuse) throw refuse
  }
  const painting = paintPool()
  const pool: PracticePool = {
    ...painting,
    begun: [],
    lossAfter: 1,
    served,
    beforeStep: () => undefined,
    refuse: undefined,
    serves: [],
    get models() {
      return [...served.keys()].map(infoOf)
    },
    get devices() {
      return painting.devices.map((device) => ({
        ...device,
        load: { ...device.load, training: { job: undefined, deviceMs, units: 0, steps: 0 } },
      }))
    },
    async train(job, options) {
      return practise(job, options, pool, (ms) => (deviceMs += ms))
    },
    async deploy({ name, folder }) {
      refuseOnce()
      served.set(name, folder)
      return infoOf(name)
    },
    async withdraw(name) {
      served.delete(name)
    },
    async exportCheckpoint({ out, job: { base }, form, checkpoint }) {
      refuseOnce()
      await mkdir(out, { recursive: true })
      if (form === 'adapter') return writeFile(join(out, 'pytorch_lora_weights.safetensors'), checkpoint)
      for (const name of await readdir(base)) await symlink(join(base, name), join(out, name))
    },
    trainingCosts: () => ({
      step: { baseMs: 1, perUnitMs: 0.01 },
      encode: { baseMs: 1, perUnitMs: 1 },
      decode: [{ baseMs: 1, perUnitMs: 0.01 }],
      weightBytes: { textEncoder: 1, transformer: 1, vae: 1 },
      bytesPerRowToken: 1,
      limitBytes: 2 ** 30,
      devices: 1,
    }),
    close: async () => undefined,
  }
  return pool
}

export const stepMs = 100
const pictureBytes = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#36a' } })
  .webp()
  .toBuffer()

async function practise(
  job: TrainingJob,
  { onEvent, onStart, pause, cancel }: TrainOptions,
  { begun, beforeStep, lossAfter }: PracticePool,
  spend: (ms: number) => void,
): Promise<TrainingOutcome> {
  const checkpoints = join(job.folder, 'checkpoints')
  await mkdir(checkpoints, { recursive: true })
  await mkdir(join(job.folder, 'samples'), { recursive: true })
  const [savedStage, savedStep] = ((await readdir(checkpoints)).sort().at(-1) ?? '0-0').split('-').map(Number)
  const places = job.stages.flatMap((stage, index) =>
    Array.from({ length: stage.steps }, (_, step) => ({ ...stage, stage: index, step: step + 1 })),
  )
  const done = places.filter(
    ({ stage, step }) => stage < savedStage! || (stage === savedStage && step <= savedStep!),
  ).length
  begun.push({ id: job.id, after: done })
  onStart?.('practice:0')

  const folderOf = (stage: number, step: number) =>
    `checkpoints/${String(stage).padStart(2, '0')}-${String(step).padStart(6, '0')}`
  function tellEnd(stage: number, steps: number): void {
    const { kind, batchSize } = job.stages[stage]!
    onEvent({
      type: 'stage_finished',
      stage,
      kind,
      steps,
      pictures: steps * batchSize,
      heldOut: { lossBefore: 2, lossAfter, pictures: 1 },
      largestChange: { parameter: 'proj_out.weight', relative: 0.5 },
      deviceMs: steps * stepMs,
    })
  }
  // As a real run does, which tells what it goes on from.
  if (done > 0) {
    const [stage, step] = [savedStage!, savedStep!]
    onEvent({ type: 'checkpoint', stage, step, folder: folderOf(stage, step) })
    if (step === job.stages[stage]?.steps) tellEnd(stage, step)
  }

  async function save(stage: number, step: number): Promise<void> {
    const folder = folderOf(stage, step)
    await mkdir(join(job.folder, folder), { recursive: true })
    await writeFile(join(job.folder, folder, 'state.json'), '{}')
    const between = (await readdir(checkpoints)).filter(
      (name) => Number(name.slice(3)) !== job.stages[Number(name.slice(0, 2))]?.steps,
    )
    for (const old of between.sort().slice(0, -job.keepCheckpoints))
      await rm(join(checkpoints, old), { recursive: true })
    onEvent({ type: 'checkpoint', stage, step, folder })
  }

  for (const { stage, step, steps, kind, batchSize } of places.slice(done)) {
    const overall = places.findIndex((place) => place.stage === stage && place.step === step) + 1
    if (step === 1) onEvent({ type: 'stage_started', stage, kind, microBatch: 1 })
    await turn()
    await Promise.race([beforeStep(overall, job), aborted(pause), aborted(cancel)])
    if (cancel?.aborted) return { kind: 'cancelled' }
    if (pause?.aborted) {
      const last = places[overall - 2]
      if (last) await save(last.stage, last.step)
      return { kind: 'paused' }
    }
    spend(stepMs)
    onEvent({
      type: 'step',
      stage,
      step,
      steps,
      loss: 1 / overall,
      gradientNorm: 2,
      learningRate: 1e-4,
      imagesPerSecond: (1000 * batchSize) / stepMs,
      deviceMs: stepMs,
      etaMs: (places.length - overall) * stepMs,
    })
    if (step % job.samples.every === 0 || step === steps) {
      for (const [index, { prompt, seed }] of job.samples.prompts.entries()) {
        const file = `samples/${stage}-${step}-${index}.webp`
        await writeFile(join(job.folder, file), pictureBytes)
        onEvent({ type: 'sample', stage, step, index, prompt, seed, file, width: 8, height: 8 })
      }
    }
    if (step === steps) tellEnd(stage, steps)
    if (step % job.checkpointEvery === 0 || step === steps) await save(stage, step)
  }
  return { kind: 'succeeded' }
}

const aborted = (signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted) resolve()
    else signal?.addEventListener('abort', () => resolve(), { once: true })
  })

export const trainingFailed = (message: string): EngineError => new EngineError('training_failed', message)
