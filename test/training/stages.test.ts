import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readCheckpointState } from '../../src/training/checkpoint.ts'
import { difference, readFixture } from '../safetensors.ts'
import { anyTime, checkpointsOf, goldenDit, ofType, oneStage, run, smallJob } from './small-run.ts'
import type { TrainingDevice } from '../../src/training/host.ts'
import type { TrainingJob, TrainingStage } from '../../src/training/job.ts'
import { sessions } from './serving.ts'

const weightsOf = ({ folder }: TrainingJob, checkpoint: string) =>
  readFixture(join(folder, 'checkpoints', checkpoint, 'state.safetensors'))

/** The largest difference of two checkpoints' weights, by the largest step that any weight took. */
function apart(one: TrainingJob, other: TrainingJob, checkpoint: string): number {
  const [a, b] = [weightsOf(one, checkpoint), weightsOf(other, checkpoint)]
  expect([...a.keys()]).toEqual([...b.keys()])
  const keys = [...a.keys()].filter((key) => key.startsWith('first.'))
  const size = Math.max(...keys.map((key) => maximum(a.get(key)!.data as Float32Array)))
  return (
    Math.max(
      ...keys.map(
        (key) => difference(a.get(key)!.data as Float32Array, b.get(key)!.data as Float32Array).absolute,
      ),
    ) / size
  )
}

const maximum = (data: Float32Array): number =>
  data.reduce((most, value) => Math.max(most, Math.abs(value)), 0)

test('from nothing: an autoencoder, a DiT on classes, then PixArt-α with its text encoder, each from the one before', async () => {
  const base = await smallJob()
  const short: TrainingStage = { ...base.stages[0]!, steps: 2, loss: { kind: 'variational' } }
  const job: TrainingJob = {
    ...base,
    start: { kind: 'random' },
    stages: [
      { ...short, kind: 'vae', resolution: 32 },
      { ...short, kind: 'pixel', condition: 'class' },
      { ...short, kind: 'align', trainTextEncoder: true },
      { ...short, kind: 'aesthetic', resolution: 32, multiAspect: true },
    ],
    heldOutShare: 0,
    samples: { every: 100, prompts: [{ prompt: 'a star', seed: 1 }], steps: 2, guidanceScale: 2 },
  }
  const { events, outcome } = await run(job)
  expect(outcome).toEqual({ kind: 'succeeded' })
  const reports = ofType(events, 'stage_finished')
  expect(reports.map(({ kind }) => kind)).toEqual(['vae', 'pixel', 'align', 'aesthetic'])
  for (const { largestChange } of reports) expect(largestChange.relative).toBeGreaterThan(0)
  expect((await checkpointsOf(job)).filter((name) => name.endsWith('000002'))).toEqual([
    '00-000002',
    '01-000002',
    '02-000002',
    '03-000002',
  ])
  const { components } = await readCheckpointState(job.folder, '03-000002')
  expect(Object.entries(components).map(([name, { checkpoint }]) => [name, checkpoint])).toEqual([
    ['vae', '00-000002'],
    ['transformer', '03-000002'],
    ['text_encoder', '02-000002'],
  ])
  expect(components.vae!.config['scaling_factor']).not.toBe(0.18215)
  expect(components.transformer!.config['norm_type']).toBe('ada_norm_single')
  expect((await readCheckpointState(job.folder, '01-000002')).components.transformer!.config).toMatchObject({
    norm_type: 'ada_norm_zero',
    num_embeds_ada_norm: 3,
  })
  expect(await readdir(join(job.folder, 'samples'))).toEqual(['02-000002-00.webp', '03-000002-00.webp'])
})

describe.each<[string, Partial<TrainingJob>, Partial<TrainingStage>]>([
  ['all of it', {}, {}],
  ['with its text encoder', {}, { trainTextEncoder: true }],
  ['a LoRA', { method: { kind: 'lora', rank: 2, alpha: 4, targets: ['to_q', 'to_v', 'proj'] } }, {}],
])('%s', (_name, ofJob, ofStage) => {
  test('block by block, the same is learned as at once', async () => {
    const options = { steps: 1, gradientClip: 1e9, loss: { kind: 'variational' }, ...ofStage } as const
    const atOnce = await oneStage(options, { maxMicroStepMs: anyTime, ...ofJob })
    const blockwise = await oneStage(
      { ...options, recompute: 'blocks' },
      { maxMicroStepMs: anyTime, ...ofJob },
    )
    const [{ events }] = [await run(atOnce), await run(blockwise)]
    expect(ofType(events, 'step')).toHaveLength(1)
    expect(apart(atOnce, blockwise, '00-000001')).toBeLessThan(1e-5)
  })
})

test('from a DiT: its classes go on to be trained, or it becomes a PixArt-α', async () => {
  const start = { kind: 'dit', folder: goldenDit('tiny-512') } as const
  const classes = await run(await oneStage({ kind: 'pixel', condition: 'class', steps: 1 }, { start }))
  expect(ofType(classes.events, 'step')[0]!.loss).toBeGreaterThan(0)
  const text = await run(await oneStage({ steps: 1 }, { start }))
  expect(ofType(text.events, 'step')[0]!.loss).toBeGreaterThan(0)
})

test('a text encoder learns at a rate of its own', async () => {
  const options = {
    steps: 1,
    trainTextEncoder: true,
    learningRate: 1e-3,
    warmupSteps: 0,
    weightDecay: 0,
  } as const
  const [alike, slower] = [
    await oneStage(options),
    await oneStage({ ...options, textEncoderLearningRate: 1e-4 }),
  ]
  await run(alike)
  await run(slower)
  const [one, other] = [weightsOf(alike, '00-000001'), weightsOf(slower, '00-000001')]
  const differences = (isOfText: boolean): number[] =>
    [...one.keys()]
      .filter((key) => key.startsWith('weights.') && /\.(shared|encoder)\./.test(key) === isOfText)
      .map(
        (key) =>
          difference(one.get(key)!.data as Float32Array, other.get(key)!.data as Float32Array).absolute,
      )
  expect(differences(false).length).toBeGreaterThan(0)
  expect(Math.max(...differences(false))).toBe(0)
  // Adam's first step is the rate, whatever the gradient.
  expect(Math.max(...differences(true))).toBeCloseTo(9e-4, 5)
})

test('where a provider gets fused attention wrong, nothing of a job is computed with it', async () => {
  const base = await smallJob()
  const short: TrainingStage = { ...base.stages[0]!, steps: 1 }
  const job: TrainingJob = {
    ...base,
    start: { kind: 'random' },
    stages: [
      { ...short, kind: 'pixel', condition: 'class' },
      { ...short, kind: 'align', trainTextEncoder: true },
    ],
    heldOutShare: 0,
    samples: { every: 100, prompts: [{ prompt: 'star', seed: 1 }], steps: 1, guidanceScale: 2 },
  }
  const operatorsOn = async (lowering: TrainingDevice['lowering']) => {
    const operators = new Set<string>()
    const { events } = await run(
      { ...job, folder: join(job.folder, lowering) },
      {
        host: {
          lowering,
          openSession: (graph, needs) => {
            for (const { operator } of graph.nodes) operators.add(operator)
            return sessions.openSession(graph, needs)
          },
        },
      },
    )
    expect(ofType(events, 'sample').map(({ stage }) => stage)).toEqual([0, 1])
    return [...operators].filter((operator) => operator.endsWith('MultiHeadAttention')).length
  }
  expect(await operatorsOn('serve')).toBe(1)
  expect(await operatorsOn('plain')).toBe(0)
})

test('what does not fit is one clear error', async () => {
  const lora = { method: { kind: 'lora', rank: 2, alpha: 2, targets: ['to_q'] } } as const
  await expect(oneStage({ kind: 'pixel', condition: 'class' }, lora).then((job) => run(job))).rejects.toThrow(
    "method 'lora': expected stages that train PixArt-α, got pixel on class",
  )
  await expect(oneStage({ trainTextEncoder: true }, lora).then((job) => run(job))).rejects.toThrow(
    "trainTextEncoder: expected method 'full', got 'lora'",
  )
  await expect(oneStage({ kind: 'pixel', condition: 'class' }).then((job) => run(job))).rejects.toThrow(
    "condition 'class': expected to start from random weights or a DiT, got PixArt-α",
  )
  await expect(
    oneStage({ learningRate: 1e30, gradientClip: 1e30, steps: 5 }).then((job) => run(job)),
  ).rejects.toThrow(/^stage 1, step \d: non-finite loss/)
})
