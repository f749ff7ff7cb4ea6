/** Every number of a job, from what little it asks for. */
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  completeJob,
  overallStep,
  placeOf,
  stepsOf,
  type JobSpecification,
  type SpecificationContext,
} from '../../src/fine-tuning/specification.ts'
import { readFootprint, type ModelFootprint } from '../../src/training/footprint.ts'
import { configured } from './fixture.ts'

let tiny: ModelFootprint
beforeAll(async () => {
  tiny = await readFootprint(configured[0].folder)
})

const context = (changes: Partial<SpecificationContext> = {}): SpecificationContext => ({
  footprint: tiny,
  baseSize: 512,
  sources: undefined,
  randomSeed: 9,
  ...changes,
})
/** As large as PixArt-XL-2 with T5-XXL. */
const large = (): ModelFootprint => ({
  ...tiny,
  transformer: { ...tiny.transformer, parameters: 611e6 },
  textEncoder: { ...tiny.textEncoder, parameters: 4.76e9 },
})
const complete = (wishes: Partial<JobSpecification> = {}, changes: Partial<SpecificationContext> = {}) =>
  completeJob({ stages: [{ kind: 'aesthetic' }], ...wishes }, context(changes))

test('a stage that says only its kind has the recipe of the paper, with fewer steps', () => {
  const { stages, ...job } = complete({ stages: [{ kind: 'align' }, { kind: 'aesthetic' }] })
  expect(stages[0]).toMatchObject({
    resolution: 256,
    learningRate: 2e-5,
    weightDecay: 0.03,
    gradientClip: 0.01,
    captionDropout: 0.1,
    schedule: 'constant',
    loss: { kind: 'variational' },
    condition: 'text',
    recompute: 'none',
  })
  expect(stages[1]).toMatchObject({ resolution: 512, multiAspect: false })
  expect(job).toMatchObject({
    seed: 9,
    method: { kind: 'full' },
    start: { kind: 'base' },
    heldOutShare: 0.05,
    samples: { prompts: [] },
  })
})

test('from 1024 pixels on the last stage sees all aspect ratios', () => {
  expect(complete({}, { baseSize: 1024 }).stages[0]).toMatchObject({ resolution: 1024, multiAspect: true })
})

test('averages reach over a tenth of a short stage, and never further than the paper', () => {
  const decay = (steps: number) => complete({ stages: [{ kind: 'align', steps }] }).stages[0]?.emaDecay
  expect([decay(5), decay(1000), decay(1_000_000)]).toEqual([0, 0.99, 0.9999])
})

test('a large model is trained as a LoRA and block by block, unless it is told otherwise', () => {
  const wide = complete({}, { footprint: large() })
  expect(wide.method).toEqual({
    kind: 'lora',
    rank: 16,
    alpha: 16,
    targets: ['to_q', 'to_k', 'to_v', 'to_out.0'],
  })
  expect(wide.stages[0]).toMatchObject({ recompute: 'blocks', learningRate: 1e-4 })
  expect(complete({ method: { kind: 'full' } }, { footprint: large() }).method).toEqual({ kind: 'full' })
  expect(complete({ start: { kind: 'random' } }, { footprint: large() }).method).toEqual({ kind: 'full' })
})

test('a first stage from nothing learns pixels from labels, the next one text', () => {
  const { stages } = complete({ start: { kind: 'random' }, stages: [{ kind: 'pixel' }, { kind: 'align' }] })
  expect(stages.map(({ condition }) => condition)).toEqual(['class', 'text'])
})

describe('what no schema can say is refused by the name of its field', () => {
  const lora = { kind: 'lora' } as const
  test.each<[string, Partial<JobSpecification>, string]>([
    ['method.type', { method: lora, start: { kind: 'random' } }, 'expected "full"'],
    ['method.type', { method: lora, stages: [{ kind: 'vae' }] }, 'expected "full"'],
    ['method.targets', { method: { ...lora, targets: ['to_q', 'o_q'] } }, 'got "o_q"'],
    ['start.source', { start: { kind: 'dit', source: 'some' } }, 'ATELIER_TRAIN_SOURCES'],
    ['stages.0.resolution', { stages: [{ kind: 'align', resolution: 100 }] }, 'got 100'],
    ['stages.0.train.text_encoder', { stages: [{ kind: 'vae', trainTextEncoder: true }] }, 'expected false'],
    [
      'stages.0.train.text_encoder_learning_rate',
      { stages: [{ kind: 'align', textEncoderLearningRate: 1e-5 }] },
      'expected only with train.text_encoder, got 0.00001',
    ],
    ['stages.0.train.condition', { stages: [{ kind: 'pixel', condition: 'class' }] }, 'got "class"'],
    [
      'stages.1.train.condition',
      {
        start: { kind: 'random' },
        stages: [{ kind: 'align' }, { kind: 'pixel', condition: 'class' }],
      },
      'got "class"',
    ],
  ])('%s', (parameter, wishes, message) => {
    expect(() => complete(wishes)).toThrow(expect.objectContaining({ code: 'invalid_job', parameter }))
    expect(() => complete(wishes)).toThrow(message)
  })

  test.each(['../elsewhere', '/etc', 'a/../../b'])('start.source outside its folder: %s', (source) => {
    expect(() => complete({ start: { kind: 'dit', source } }, { sources: '/srv/dits' })).toThrow(
      expect.objectContaining({ parameter: 'start.source' }),
    )
  })

  test('a text encoder that is too large, and a model of few bits', () => {
    const stages = [{ kind: 'align', trainTextEncoder: true }] as const
    expect(() => complete({ stages }, { footprint: large() })).toThrow('this one has 4760')
    const quantised = { ...tiny, quantised: ['transformer'] }
    expect(() => complete({}, { footprint: quantised })).toThrow(
      expect.objectContaining({ parameter: 'model' }),
    )
  })
})

test('a step of a stage and a step of the job are told from each other', () => {
  const stage = complete().stages[0]!
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 6 }), (steps) => {
      const job = { stages: steps.map((each) => ({ ...stage, steps: each })) }
      const all = job.stages.flatMap(({ steps: count }, index) =>
        Array.from({ length: count }, (_, step) => ({ stage: index, stageStep: step + 1 })),
      )
      expect(stepsOf(job)).toBe(all.length)
      for (const [index, place] of all.entries()) {
        expect(overallStep(job, place.stage, place.stageStep)).toBe(index + 1)
        expect(placeOf(job, index + 1)).toEqual(place)
      }
    }),
    { numRuns: 30 },
  )
})
