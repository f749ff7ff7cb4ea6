import { access, mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { reportCheckpoint } from '../../src/engine/checkpoint-report.ts'
import { parseSchedulerConfig } from '../../src/diffusion/scheduler-config.ts'
import { pixart, readPixArtConfig } from '../../src/models/pixart.ts'
import { readVaeConfig } from '../../src/models/vae.ts'
import { startAdamW } from '../../src/training/adamw.ts'
import {
  writeCheckpoint,
  type ComponentName,
  type TrainedComponent,
  type TrainedTensor,
} from '../../src/training/checkpoint.ts'
import { exportCheckpoint } from '../../src/training/export.ts'
import { exportModel } from '../../src/training/export-model.ts'
import type { TrainingJob } from '../../src/training/job.ts'
import { defaultTargets, loraShapes, planLora } from '../../src/training/lora.ts'
import { readAdapter } from '../../src/training/lora-files.ts'
import { drawSamples } from '../../src/training/sampling.ts'
import { openCheckpoint, openComponent, type Component } from '../../src/weights/checkpoint.ts'
import { readFloats, readTensor } from '../../src/weights/safetensors.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { noise } from '../graph/gradient/differences.ts'
import { temporaryFolder } from '../weights/folder.ts'
import { jobOf } from './data/small-set.ts'
import { serve, sessions, textDenoiser } from './serving.ts'
import { goldenBase, goldenDit } from './small-run.ts'

const variant = 'tiny-512'
const base = await openCheckpoint(goldenBase(variant))
const config = readPixArtConfig(base.transformer.config)
const lora = { kind: 'lora', rank: 4, alpha: 2, targets: [...defaultTargets] } as const
const adapter = planLora(pixart(config, 'plain'), lora)

type Values = ReadonlyMap<string, Float32Array<ArrayBuffer>>

/** The component's trained parameters, a little moved. */
async function moved(component: Component, parameters: ReadonlyMap<string, unknown>): Promise<Values> {
  const values = new Map<string, Float32Array<ArrayBuffer>>()
  for (const [i, key] of [...parameters.keys()].entries()) {
    const data = await readFloats(component.tensors.get(key)!)
    const change = noise(data.length, i)
    values.set(
      key,
      data.map((value, j) => value + 0.02 * change[j]!),
    )
  }
  return values
}

const transformerShapes = new Map(
  pixart(config, 'plain').parameters.map(({ name, shape }) => [name, shape as readonly number[]]),
)
const loraValues: Values = new Map(
  [...loraShapes(adapter)].map(([key, shape], i) => [
    key,
    noise(shape[0]! * shape[1]!, i).map((value) => value / 2),
  ]),
)

interface Trained {
  readonly component: ComponentName
  readonly shapes: ReadonlyMap<string, readonly number[]>
  readonly average: Values
  readonly becomes: Omit<TrainedComponent, 'checkpoint'>
}

/** A job's folder with one checkpoint, whose weights are others than their average. */
async function checkpointOf(
  { component, shapes, average, becomes }: Trained,
  overrides: Partial<TrainingJob> = {},
): Promise<{ readonly job: TrainingJob; readonly checkpoint: string }> {
  const job = jobOf(await temporaryFolder(), { base: base.folder, ...overrides })
  const trained = new Map(
    [...shapes].map(([key, shape]): [string, TrainedTensor] => [key, { component, shape }]),
  )
  const weights = new Map([...average].map(([key, data]) => [key, data.map((value) => value + 1)]))
  const state = {
    version: 1,
    stage: 0,
    step: 12,
    updates: 12,
    deviceMs: 0,
    inherited: {},
    components: { [component]: { ...becomes, checkpoint: '00-000012' } },
  } as const
  const name = await writeCheckpoint(job.folder, state, trained, {
    weights,
    average,
    optimiser: startAdamW(weights),
  })
  return { job, checkpoint: `checkpoints/${name}` }
}

const fullTransformer = async (): Promise<Trained> => ({
  component: 'transformer',
  shapes: transformerShapes,
  average: await moved(base.transformer, transformerShapes),
  becomes: { kind: 'full', config: base.transformer.config },
})
const loraTransformer: Trained = {
  component: 'transformer',
  shapes: loraShapes(adapter),
  average: loraValues,
  becomes: { kind: 'lora', config: base.transformer.config },
}

async function drain(units: AsyncGenerator<unknown, void>): Promise<number> {
  let stops = 0
  for await (const _ of units) stops += 1
  return stops
}

const inode = async (...path: string[]): Promise<number> => (await stat(join(...path))).ino

/** Names of a checkpoint's files, each with whether it is the base's own. */
async function linked(out: string): Promise<Record<string, boolean>> {
  const names = (await readdir(out, { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isFile(),
  )
  const entries = names.map(async ({ parentPath, name }) => {
    const path = join(parentPath, name).slice(out.length + 1)
    const same = (await inode(out, path)) === (await inode(base.folder, path).catch(() => -1))
    return [path, same] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

const size = { width: 64, height: 64 }
const plan = { every: 1, prompts: [{ prompt: 'a red bicycle', seed: 4 }], steps: 2, guidanceScale: 3 }

/** The largest difference between a sample from these weights and the picture that the exported model makes. */
async function distance(
  out: string,
  trained: Values,
  frozen: Component,
  withAdapter: boolean,
): Promise<number> {
  const inFiles = (component: Component) => ({
    trained: new Map<string, Float32Array>(),
    frozen: () => Promise.resolve(component.tensors),
  })
  const denoiser = await textDenoiser(base.folder)
  const samples: Uint8Array[] = []
  for await (const pixels of drawSamples(sessions, {
    plan,
    denoiser: withAdapter ? { ...denoiser, adapter } : denoiser,
    denoiserWeights: { ...inFiles(frozen), trained },
    vae: readVaeConfig(base.vae.config),
    vaeWeights: inFiles(base.vae),
    scheduler: parseSchedulerConfig(base.scheduler.config),
    size,
  }))
    if (pixels) samples.push(pixels)
  const { prompts, steps, guidanceScale } = plan
  const [served] = await serve(out, [{ ...prompts[0]!, ...size, steps, guidanceScale }])
  return samples[0]!.reduce((most, value, i) => Math.max(most, Math.abs(value - served![i]!)), 0)
}

describe('a checkpoint of all weights', () => {
  test('becomes a model that is complete, with the averaged weights bit for bit and the rest linked', async () => {
    const trained = await fullTransformer()
    const { job, checkpoint } = await checkpointOf(trained)
    const out = join(await temporaryFolder(), 'models', 'fine')
    expect(await drain(exportCheckpoint({ job, checkpoint, out, form: 'model' }))).toBeGreaterThan(0)

    const files = await linked(out)
    const written = Object.keys(files).filter((file) => !files[file] && !file.endsWith('.json'))
    expect(written).toEqual(['transformer/diffusion_pytorch_model.safetensors'])
    const configs = Object.keys(files).filter((file) => file.endsWith('.json'))
    for (const file of configs)
      expect(await readFile(join(out, file))).toEqual(await readFile(join(base.folder, file)))
    expect(files).toMatchObject({
      'text_encoder/model.safetensors': true,
      'vae/diffusion_pytorch_model.safetensors': true,
    })
    expect(Object.keys(files)).toEqual(
      expect.arrayContaining([
        'model_index.json',
        'transformer/config.json',
        'tokenizer/spiece.model',
        'vae/config.json',
      ]),
    )
    const exported = await openCheckpoint(out)
    for (const [key, location] of base.transformer.tensors) {
      const expected = trained.average.get(key) ?? (await readTensor(location))
      expect(await readTensor(exported.transformer.tensors.get(key)!)).toEqual(expected)
    }
    expect(exported.transformer.tensors.size).toBe(base.transformer.tensors.size)
    const report = await reportCheckpoint(out, {
      provider: 'cpu',
      precision: 'float32',
      limitBytes: undefined,
    })
    expect(report.problems).toEqual([])
    expect(report.version).not.toBe(base.version)
    expect(await distance(out, trained.average, base.transformer, false)).toBeLessThanOrEqual(1)
  })

  test('has no adapter, and one that is not there is said so', async () => {
    const { job, checkpoint } = await checkpointOf(await fullTransformer())
    const out = join(await temporaryFolder(), 'out')
    await expect(drain(exportCheckpoint({ job, checkpoint, out, form: 'adapter' }))).rejects.toThrow(
      "checkpoints/00-000012: expected a LoRA's checkpoint, got one of method 'full'",
    )
    await expect(
      drain(exportCheckpoint({ job, checkpoint: 'checkpoints/00-000099', out, form: 'model' })),
    ).rejects.toThrow('expected a checkpoint')
    await expect(access(out)).rejects.toThrow('ENOENT')
  })
})

describe('a checkpoint of a LoRA', () => {
  test('becomes a model with the adapter in its weights, which serves the pictures of the samples', async () => {
    const { job, checkpoint } = await checkpointOf(loraTransformer, { method: lora })
    const out = join(await temporaryFolder(), 'merged')
    await drain(exportCheckpoint({ job, checkpoint, out, form: 'model' }))
    const exported = await openCheckpoint(out)
    expect([...exported.transformer.tensors.keys()].toSorted()).toEqual(
      [...base.transformer.tensors.keys()].toSorted(),
    )
    const untouched = 'transformer_blocks.0.ff.net.2.weight'
    expect(await readTensor(exported.transformer.tensors.get(untouched)!)).toEqual(
      await readTensor(base.transformer.tensors.get(untouched)!),
    )
    expect(await distance(out, loraValues, base.transformer, true)).toBeLessThanOrEqual(1)
    expect(await distance(base.folder, loraValues, base.transformer, true)).toBeGreaterThan(10)
  })

  test('becomes an adapter that can be read back', async () => {
    const { job, checkpoint } = await checkpointOf(loraTransformer, { method: lora })
    const out = join(await temporaryFolder(), 'adapter')
    await drain(exportCheckpoint({ job, checkpoint, out, form: 'adapter' }))
    const stored = await readAdapter(out)
    expect(stored).toMatchObject({ rank: 4, alpha: 2 })
    expect(stored.tensors.size).toBe(loraValues.size)
    for (const [key, location] of stored.tensors)
      expect(await readFloats(location)).toEqual(loraValues.get(key))
  })
})

describe('a model', () => {
  test('is cut into shards by their largest size, with an index', async () => {
    const { job, checkpoint } = await checkpointOf(await fullTransformer())
    const file = join(job.folder, checkpoint, 'state.safetensors')
    const prefix = 'average.transformer.'
    const tensors = new Map(
      [...(await openSafetensors(file)).tensors]
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, location]) => [key.slice(prefix.length), location] as const),
    )
    const out = join(await temporaryFolder(), 'sharded')
    const change = { kind: 'trained', config: base.transformer.config, tensors } as const
    await drain(
      exportModel({ base: base.folder, out, changes: { transformer: change }, maxShardBytes: 60_000 }),
    )
    const names = (await readdir(join(out, 'transformer'))).toSorted()
    expect(names.length).toBeGreaterThan(4)
    expect(names).toContain('diffusion_pytorch_model.safetensors.index.json')
    expect((await openComponent(join(out, 'transformer'))).tensors.size).toBe(base.transformer.tensors.size)
  })

  test("of a class-conditional transformer is diffusers' DiTPipeline, with its own configuration", async () => {
    const dit = await openComponent(join(goldenDit(variant), 'transformer'))
    const out = join(await temporaryFolder(), 'dit')
    const change = { kind: 'trained', config: dit.config, tensors: dit.tensors } as const
    await drain(exportModel({ base: base.folder, out, changes: { transformer: change } }))
    expect((await readdir(out)).toSorted()).toEqual(['model_index.json', 'scheduler', 'transformer', 'vae'])
    expect(JSON.parse(await readFile(join(out, 'model_index.json'), 'utf8'))).toMatchObject({
      _class_name: 'DiTPipeline',
    })
    const written = await openComponent(join(out, 'transformer'))
    expect(written.config).toEqual(dit.config)
    for (const [key, location] of dit.tensors)
      expect(await readTensor(written.tensors.get(key)!)).toEqual(await readTensor(location))
  })

  test('that is given up half way leaves nothing behind', async () => {
    const { job, checkpoint } = await checkpointOf(await fullTransformer())
    const folder = await temporaryFolder()
    const units = exportCheckpoint({ job, checkpoint, out: join(folder, 'out'), form: 'model' })
    for (let i = 0; i < 5; i++) expect((await units.next()).done).toBe(false)
    await units.return()
    expect(await readdir(folder)).toEqual([])
  })

  test('does not overwrite what is there', async () => {
    const { job, checkpoint } = await checkpointOf(await fullTransformer())
    const out = await temporaryFolder()
    await mkdir(join(out, 'something'))
    await expect(drain(exportCheckpoint({ job, checkpoint, out, form: 'model' }))).rejects.toThrow(
      'expected nothing or an empty folder, got one with something in it',
    )
    expect(await readdir(out)).toEqual(['something'])
  })
})
