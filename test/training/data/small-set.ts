/** Small pictures in real files, a manifest of them, and a job with one stage on them. */
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { parseSchedulerConfig } from '../../../src/diffusion/scheduler-config.ts'
import { openTokenizer } from '../../../src/text/tokenizer.ts'
import { writeManifest } from '../../../src/training/data/manifest.ts'
import type { StageDataOptions } from '../../../src/training/data/stage-data.ts'
import { diffusionProcess } from '../../../src/training/diffusion-process.ts'
import type { TrainingItem, TrainingJob, TrainingStage } from '../../../src/training/job.ts'

export const tokenizer = await openTokenizer(
  fileURLToPath(new URL('../../fixtures/golden/tiny-512/checkpoint/tokenizer', import.meta.url)),
)

export const process = diffusionProcess(parseSchedulerConfig({ _class_name: 'DPMSolverMultistepScheduler' }))

export const stage: TrainingStage = {
  kind: 'align',
  resolution: 32,
  multiAspect: false,
  steps: 20,
  batchSize: 4,
  learningRate: 1e-4,
  schedule: 'constant',
  warmupSteps: 0,
  weightDecay: 0,
  gradientClip: 1,
  emaDecay: 0.9,
  captionDropout: 0.1,
  loss: { kind: 'mse' },
  klWeight: 1e-6,
  equivarianceWeight: 0,
  condition: 'text',
  trainTextEncoder: false,
  recompute: 'none',
  precision: 'float32',
}

export const jobOf = (folder: string, overrides: Partial<TrainingJob> = {}): TrainingJob => ({
  id: 'job',
  folder: join(folder, 'job'),
  base: '',
  cacheDir: join(folder, 'cache'),
  manifest: join(folder, 'manifest.jsonl'),
  seed: 7,
  start: { kind: 'base' },
  method: { kind: 'full' },
  stages: [stage],
  samples: { every: 100, prompts: [], steps: 2, guidanceScale: 1 },
  checkpointEvery: 10,
  keepCheckpoints: 1,
  heldOutShare: 0.1,
  maxMicroStepMs: 100,
  ...overrides,
})

/** Writes a picture of one colour. */
export async function onePicture(
  folder: string,
  index: number,
  { width = 40, height = 40, ...rest }: Partial<TrainingItem> = {},
): Promise<TrainingItem> {
  const file = join(folder, `${index}.png`)
  const background = { r: (37 * index) % 256, g: (91 * index) % 256, b: (151 * index) % 256 }
  const bytes = await sharp({ create: { width, height, channels: 3, background } })
    .png()
    .toBuffer()
  await writeFile(file, bytes)
  return {
    id: `item-${index}`,
    file,
    sha256: sha256(bytes),
    width,
    height,
    captions: [`A picture of number ${index}`],
    ...rest,
  }
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export async function itemOfFile(file: string, id = 'item'): Promise<TrainingItem> {
  return { id, file, sha256: sha256(await readFile(file)), width: 1, height: 1, captions: [] }
}

/** Pictures of these descriptions, and the manifest of a job on them. */
export async function smallSet(
  folder: string,
  descriptions: readonly Partial<TrainingItem>[],
): Promise<readonly TrainingItem[]> {
  const items = await Promise.all(descriptions.map((description, i) => onePicture(folder, i, description)))
  await writeManifest(join(folder, 'manifest.jsonl'), items)
  return items
}

/** What was asked to be encoded, in order. */
export interface Encoded {
  readonly images: number[]
  readonly texts: string[]
}

/**
 * Options whose encoders are plain arithmetic: a latent is the mean of its pixels in each colour, a hidden state repeats its token's
 * number.
 */
export function optionsOf(
  job: TrainingJob,
  overrides: Partial<StageDataOptions> = {},
): StageDataOptions & { readonly encoded: Encoded } {
  const encoded: Encoded = { images: [], texts: [] }
  return {
    encoded,
    job,
    stageIndex: 0,
    rows: 2,
    layout: {
      patchSize: 2,
      latentChannels: 4,
      latentScale: 8,
      scalingFactor: 0.5,
      baseSize: 2,
      interpolationScale: 1,
      captionWidth: 6,
      microConditioned: false,
    },
    encode: {
      image: async ({ data, dims: [, , height = 0, width = 0] }) => {
        encoded.images.push(data[0]!)
        const [h, w] = [height / 8, width / 8]
        const mean = new Float32Array(4 * h * w)
        for (let channel = 0; channel < 3; channel++) {
          for (let y = 0; y < h; y++) {
            for (let x = 0; x < w; x++) {
              mean[(channel * h + y) * w + x] = data[(channel * height + 8 * y) * width + 8 * x]!
            }
          }
        }
        return { mean, logvar: new Float32Array(mean.length).fill(-4) }
      },
      text: async ({ data }) => {
        encoded.texts.push(data.join(' '))
        return Float32Array.from({ length: 6 * data.length }, (_, i) => data[Math.floor(i / 6)]!)
      },
    },
    versions: { vae: 'vae', text: 'text' },
    tokenizer,
    process,
    ...overrides,
  }
}
