import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { parseSchedulerConfig } from '../../src/diffusion/scheduler-config.ts'
import { readDitConfig } from '../../src/models/dit.ts'
import { readVaeConfig } from '../../src/models/vae.ts'
import type { TrainingEvent } from '../../src/training/job.ts'
import {
  drawSamples,
  writeSamples,
  type SampleOptions,
  type SampleWeights,
} from '../../src/training/sampling.ts'
import { openCheckpoint, openComponent, type Component } from '../../src/weights/checkpoint.ts'
import { readFloats } from '../../src/weights/safetensors.ts'
import { temporaryFolder } from '../weights/folder.ts'
import { serve, sessions, textDenoiser } from './serving.ts'

const golden = (path: string): string => fileURLToPath(new URL(`../fixtures/golden/${path}`, import.meta.url))
const size = { width: 96, height: 64 }

const inFiles = ({ tensors }: Component): SampleWeights => ({
  trained: new Map(),
  frozen: () => Promise.resolve(tensors),
})

async function inMemory({ tensors }: Component): Promise<SampleWeights> {
  const trained = new Map<string, Float32Array>()
  for (const [key, location] of tensors) trained.set(key, await readFloats(location))
  return { trained, frozen: () => Promise.resolve(new Map()) }
}

async function collect(options: SampleOptions): Promise<readonly Uint8Array[]> {
  const pictures: Uint8Array[] = []
  for await (const pixels of drawSamples(sessions, options)) if (pixels) pictures.push(pixels)
  return pictures
}

const farthest = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? Infinity))), 0)

const plan = {
  every: 1,
  prompts: [
    { prompt: '  A Red Bicycle', seed: 11 },
    { prompt: 'a small fox in the snow', seed: 2 ** 33 + 5 },
  ],
  steps: 3,
}

test.each([
  { variant: 'tiny-512', guidanceScale: 4.5, weights: 'fed' },
  { variant: 'tiny-1024-ms', guidanceScale: 4.5, weights: 'in files' },
  { variant: 'tiny-512', guidanceScale: 1, weights: 'in files' },
])(
  'samples are the pictures that serving makes: $variant, guidance $guidanceScale, weights $weights',
  async (one) => {
    const folder = golden(`${one.variant}/checkpoint`)
    const { transformer, vae, scheduler } = await openCheckpoint(folder)
    const weightsOf = (component: Component) =>
      one.weights === 'fed' ? inMemory(component) : inFiles(component)
    const pictures = await collect({
      plan: { ...plan, guidanceScale: one.guidanceScale },
      denoiser: await textDenoiser(folder),
      denoiserWeights: await weightsOf(transformer),
      vae: readVaeConfig(vae.config),
      vaeWeights: await weightsOf(vae),
      scheduler: parseSchedulerConfig(scheduler.config),
      size,
    })
    const requests = plan.prompts.map((prompt) => ({
      ...prompt,
      ...size,
      steps: plan.steps,
      guidanceScale: one.guidanceScale,
    }))
    const served = await serve(folder, requests)
    expect(pictures).toHaveLength(2)
    for (const [i, picture] of pictures.entries())
      expect(farthest(picture, served[i]!)).toBeLessThanOrEqual(1)
    expect(farthest(pictures[0]!, pictures[1]!)).toBeGreaterThan(10)
  },
)

test('samples of classes are written, whole and told of, with a stop after every step', async () => {
  const transformer = await openComponent(golden('tiny-512/dit/transformer'))
  const { vae, scheduler } = await openCheckpoint(golden('tiny-512/checkpoint'))
  const jobFolder = await temporaryFolder()
  const told: TrainingEvent[] = []
  const classes = ['cat', 'dog']
  const options: SampleOptions = {
    plan: {
      every: 1,
      prompts: [
        { prompt: 'dog', seed: 3 },
        { prompt: 'cat', seed: 3 },
      ],
      steps: 2,
      guidanceScale: 2,
    },
    denoiser: { kind: 'class', config: readDitConfig(transformer.config), classes },
    denoiserWeights: await inMemory(transformer),
    vae: readVaeConfig(vae.config),
    vaeWeights: inFiles(vae),
    scheduler: parseSchedulerConfig(scheduler.config),
    size,
  }
  const host = { ...sessions, tell: (event: TrainingEvent) => void told.push(event) }
  let stops = 0
  for await (const unit of writeSamples(host, { jobFolder, stage: 1, step: 250 }, options)) {
    expect(unit).toEqual({ kind: 'sample' })
    stops += 1
  }
  expect(stops).toBeGreaterThanOrEqual(2 * 2 + 2)
  const files = ['01-000250-00.webp', '01-000250-01.webp']
  expect((await readdir(join(jobFolder, 'samples'))).toSorted()).toEqual(files)
  expect(told).toEqual(
    ['dog', 'cat'].map((prompt, index) => ({
      type: 'sample',
      stage: 1,
      step: 250,
      index,
      prompt,
      seed: 3,
      file: `samples/${files[index]}`,
      ...size,
    })),
  )
  expect(await sharp(join(jobFolder, 'samples', files[0]!)).metadata()).toMatchObject({
    format: 'webp',
    ...size,
  })
  const [dog, cat] = await collect(options)
  expect(farthest(dog!, cat!)).toBeGreaterThan(0)

  const unknown = { ...options, plan: { ...options.plan, prompts: [{ prompt: 'cow', seed: 1 }] } }
  await expect(collect(unknown)).rejects.toThrow('expected the name of a class (cat, dog), got cow')
})
