/** What a job is expected to take, by figures worked out by hand. */
import { beforeAll, describe, expect, test } from 'vitest'
import type { TrainingCosts } from '../../src/engine/pool.ts'
import { planJob, type PlanInput } from '../../src/fine-tuning/plan.ts'
import { completeJob, type JobSpecification } from '../../src/fine-tuning/specification.ts'
import { loraFootprint, readFootprint, type ModelFootprint } from '../../src/training/footprint.ts'
import { configured } from './fixture.ts'

/** PixArt-XL-2: 28 blocks of width 1152, 611 M parameters; T5-XXL's encoder; SD's VAE. */
const block = [
  ...['attn1', 'attn2'].flatMap((attention) =>
    ['to_q', 'to_k', 'to_v', 'to_out.0'].map((name) => [`${attention}.${name}`, [1152, 1152]] as const),
  ),
  ['ff.net.0.proj', [4608, 1152]] as const,
]
const xl: ModelFootprint = {
  version: 'xl',
  transformer: {
    parameters: 611e6,
    sizeBytes: 1222e6,
    layers: 28,
    width: 1152,
    heads: 16,
    matrices: new Map(
      Array.from({ length: 28 }, (_, index) =>
        block.map(([name, shape]) => [`transformer_blocks.${index}.${name}`, shape] as const),
      ).flat(),
    ),
  },
  textEncoder: { parameters: 4.76e9, sizeBytes: 9.52e9 },
  vae: { parameters: 83.7e6, sizeBytes: 167e6, channels: 128 },
  captionWidth: 4096,
  pixelsPerLatent: 8,
  pixelsPerToken: 16,
  quantised: [],
}
const costs: TrainingCosts = {
  step: { baseMs: 10, perUnitMs: 0.5 },
  encode: { baseMs: 100, perUnitMs: 50 },
  decode: [{ baseMs: 0, perUnitMs: 0.1 }],
  weightBytes: { textEncoder: 0, transformer: 0, vae: 0 },
  bytesPerRowToken: 0,
  limitBytes: 16 * 2 ** 30,
  devices: 1,
}
const plan = (specification: JobSpecification, changes: Partial<PlanInput> = {}) => {
  const context = { footprint: xl, baseSize: 1024, sources: undefined, randomSeed: 1 }
  return planJob({
    parameters: completeJob(specification, context),
    footprint: xl,
    costs,
    pictures: 1000,
    maxMicroStepMs: 2_000,
    rates: { watts: 100, gramsPerKwh: 480, costPerDeviceHour: 1 },
    measured: [],
    ...changes,
  })
}
const stage = { kind: 'align', resolution: 256, steps: 100, batchSize: 8, recompute: 'none' } as const

test('a micro-step is as many pictures as stay under its longest time, by the forward cost and a factor', () => {
  const { stages, steps } = plan({ stages: [stage] })
  // 256 tokens: 3.5 · (10 + 0.5 · 256 · rows) = 35 + 448 · rows; 4 rows take 1827 ms, 8 would take 3619.
  expect(stages[0]).toMatchObject({ microBatch: 4, basis: 'estimated' })
  expect(stages[0]?.microStepMs).toBeCloseTo(1827)
  expect(stages[0]?.deviceMs).toBeCloseTo(100 * 2 * 1827)
  expect(steps).toBe(100)
})

test('an earlier job of the same kind knows better', () => {
  const [trained] = completeJob(
    { stages: [stage] },
    { footprint: xl, baseSize: 1024, sources: undefined, randomSeed: 1 },
  ).stages
  const measured = [{ method: 'lora', stage: trained!, stepMs: 8 * 250 }] as const
  expect(plan({ stages: [stage] }, { measured }).stages[0]).toMatchObject({
    microBatch: 8,
    microStepMs: 2000,
    basis: 'measured',
  })
  const others = [
    { ...stage, resolution: 512 },
    { ...stage, recompute: 'blocks' },
  ] as const
  for (const other of others)
    expect(plan({ stages: [other] }, { measured }).stages[0]?.basis).toBe('estimated')
  expect(plan({ method: { kind: 'full' }, stages: [stage] }, { measured }).stages[0]?.basis).toBe('estimated')
})

describe('memory and disk', () => {
  test('all of XL takes 24 bytes a weight beside its activations, and gigabytes cross at every micro-step', () => {
    const { stages, parameters, disk, warnings, peakBytes } = plan({
      method: { kind: 'full' },
      stages: [{ ...stage, recompute: 'blocks' }],
    })
    const { memory, crossingBytes } = stages[0]!
    expect(parameters.trained).toBe(611e6)
    expect(memory.totalBytes - memory.activationBytes).toBe(24 * 611e6)
    expect(memory.mappedBytes).toBe(0)
    expect(crossingBytes).toBe(8 * 611e6)
    expect(disk.checkpointBytes).toBe(16 * 611e6)
    expect(warnings.join('\n')).toMatch(/cross to a device/)
    expect(peakBytes).toBe(memory.totalBytes)
  })

  test('a LoRA trains its two matrices and leaves the rest in its files', () => {
    const { stages, parameters } = plan({ stages: [{ ...stage, recompute: 'blocks' }] })
    // 8 projections of 1152 → 1152 in each of 28 blocks, rank 16.
    expect(parameters.trained).toBe(28 * 8 * 16 * (1152 + 1152))
    expect(stages[0]?.crossingBytes).toBe(0)
    expect(stages[0]?.memory).toMatchObject({
      mappedBytes: 1222e6,
      weightBytes: 4 * parameters.trained,
      momentBytes: 8 * parameters.trained,
    })
  })

  test('block by block keeps one block and the states between', () => {
    const activations = (recompute: 'none' | 'blocks') =>
      plan({ stages: [{ ...stage, recompute }] }).stages[0]!.memory.activationBytes
    expect(activations('blocks')).toBeLessThan(activations('none') / 10)
  })

  test('what is larger than the device is warned of', () => {
    const small = { ...costs, limitBytes: 2 ** 30 }
    expect(plan({ method: { kind: 'full' }, stages: [stage] }, { costs: small }).warnings[0]).toMatch(
      /a device has 1024 MiB/,
    )
  })
})

test('energy, CO₂ and cost are those of the device time', () => {
  const { use, deviceMs } = plan({ stages: [stage] })
  expect(use.deviceHours).toBeCloseTo(deviceMs / 3.6e6)
  expect(use.kwh).toBeCloseTo((100 * deviceMs) / 3.6e9)
  expect(use.co2Grams).toBeCloseTo(480 * use.kwh)
  expect(use.cost).toBeCloseTo(use.deviceHours)
})

test('latents are encoded once for each resolution, and texts once', () => {
  const { prepareMs } = plan({
    stages: [stage, { ...stage, kind: 'aesthetic' }, { ...stage, resolution: 512 }],
  })
  // 32² and 64² latents at 0.1 ms, encoding at 0.6 of decoding; texts 150 ms each.
  expect(prepareMs).toBeCloseTo(1000 * (0.6 * 0.1 * (1024 + 4096) + 150))
})

describe('the footprint of a checkpoint', () => {
  let tiny: ModelFootprint
  beforeAll(async () => {
    tiny = await readFootprint(configured[0].folder)
  })

  test('is what its files say', () => {
    expect(tiny).toMatchObject({ pixelsPerLatent: 8, pixelsPerToken: 16, captionWidth: 32, quantised: [] })
    expect(tiny.transformer).toMatchObject({ layers: 2, width: 32, heads: 2 })
    expect(tiny.transformer.sizeBytes).toBe(4 * tiny.transformer.parameters)
  })

  test('targets are whole parts of names', () => {
    const modules = (target: string) => loraFootprint(tiny, { rank: 4, targets: [target] })
    expect(modules('to_q')).toEqual({
      modules: [0, 1].flatMap((index) =>
        ['attn1', 'attn2'].map((attention) => `transformer_blocks.${index}.${attention}.to_q`),
      ),
      parameters: 4 * 4 * (32 + 32),
    })
    expect(modules('o_q').modules).toEqual([])
  })
})
