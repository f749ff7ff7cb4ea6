/**
 * A model from nothing: an autoencoder, then the paper's three stages, on shapes of three colours. Minutes on a CPU.
 *
 * Held to: a held-out loss that falls in every stage; and pictures of which the root mean square difference from the mean picture of
 * their own caption is less than 0.7 × that from those of the other captions, four of ten being nearest to their own, where one of six
 * would be by chance: a circle and a square of one colour are close.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { writeManifest } from '../../src/training/data/manifest.ts'
import type { TrainingItem, TrainingJob, TrainingStage } from '../../src/training/job.ts'
import { ofType, run } from '../training/small-run.ts'
import { temporaryFolder } from '../weights/folder.ts'

const colours = { red: '#e02020', green: '#20c040', blue: '#3050f0' } as const
const shapes = ['circle', 'square'] as const
type Size = readonly [width: number, height: number]
const side = 64
/** Of 64 × 64 pixels and the buckets beside it. */
const sizes: readonly Size[] = [
  [side, side],
  [side, side],
  [80, 48],
  [48, 80],
]
const captions = Object.keys(colours).flatMap((colour) => shapes.map((shape) => `${colour} ${shape}`))

/** The shape on grey, somewhere near the middle. */
function draw(caption: string, [width, height]: Size, random: () => number): Promise<Buffer> {
  const [colour = '', shape] = caption.split(' ')
  const radius = 14 + 4 * random()
  const [x, y] = [width / 2 + 6 * random() - 3, height / 2 + 6 * random() - 3]
  const fill = colours[colour as keyof typeof colours]
  const drawn =
    shape === 'circle'
      ? `<circle cx="${x}" cy="${y}" r="${radius}" fill="${fill}"/>`
      : `<rect x="${x - radius}" y="${y - radius}" width="${2 * radius}" height="${2 * radius}" fill="${fill}"/>`
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="#606060"/>${drawn}</svg>`
  return sharp(Buffer.from(svg)).png().toBuffer()
}

function numbers(): () => number {
  let state = 1
  return () => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff
}

async function writePictures(folder: string, each: number): Promise<void> {
  await mkdir(folder)
  const random = numbers()
  const items: TrainingItem[] = []
  for (const label of captions) {
    for (let i = 0; i < each; i++) {
      const size = sizes[i % sizes.length]!
      const bytes = await draw(label, size, random)
      const file = join(folder, `${label}-${i}.png`)
      await writeFile(file, bytes)
      items.push({
        id: `${label}-${i}`,
        file,
        sha256: createHash('sha256').update(bytes).digest('hex'),
        width: size[0],
        height: size[1],
        captions: [`A ${label}.`, label],
        label,
        aestheticScore: 5 + (i % 3),
      })
    }
  }
  await writeManifest(join(folder, 'manifest.jsonl'), items)
}

const resnets = (name: string, count: number): string[] => Array.from({ length: count }, () => name)

async function writeBase(folder: string): Promise<void> {
  await writeSyntheticCheckpoint(folder, {
    seed: 1,
    tokenizer: fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint/tokenizer', import.meta.url)),
    transformer: {
      num_attention_heads: 4,
      attention_head_dim: 16,
      num_layers: 4,
      in_channels: 4,
      out_channels: 8,
      patch_size: 2,
      sample_size: side / 4,
      cross_attention_dim: 64,
      caption_channels: 48,
      attention_bias: true,
      norm_type: 'ada_norm_single',
      norm_elementwise_affine: false,
      norm_eps: 1e-6,
      activation_fn: 'gelu-approximate',
      use_additional_conditions: false,
    },
    textEncoder: {
      vocab_size: 2000,
      d_model: 48,
      d_kv: 12,
      d_ff: 96,
      num_layers: 2,
      num_heads: 4,
      feed_forward_proj: 'gated-gelu',
    },
    vae: {
      in_channels: 3,
      out_channels: 3,
      latent_channels: 4,
      block_out_channels: [16, 24, 24],
      down_block_types: resnets('DownEncoderBlock2D', 3),
      up_block_types: resnets('UpDecoderBlock2D', 3),
      layers_per_block: 1,
      norm_num_groups: 8,
      act_fn: 'silu',
    },
  })
}

const stage: TrainingStage = {
  kind: 'pixel',
  resolution: 32,
  multiAspect: false,
  steps: 600,
  batchSize: 16,
  learningRate: 1e-3,
  schedule: 'cosine',
  warmupSteps: 20,
  weightDecay: 0,
  gradientClip: 1,
  emaDecay: 0.98,
  captionDropout: 0.1,
  loss: { kind: 'variational' },
  klWeight: 1e-6,
  equivarianceWeight: 0,
  condition: 'text',
  trainTextEncoder: false,
  recompute: 'none',
  precision: 'float32',
}

async function pixelsOf(file: string | Buffer): Promise<Uint8Array> {
  return sharp(file).removeAlpha().raw().toBuffer()
}

/** Root of the mean squared difference, in levels of 255. */
function distance(a: Uint8Array, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return Math.sqrt(sum / a.length)
}

/** The mean of many pictures of a caption. */
async function typical(caption: string): Promise<Float64Array> {
  const random = numbers()
  const count = 16
  const mean = new Float64Array(side * side * 3)
  for (let i = 0; i < count; i++) {
    const pixels = await pixelsOf(await draw(caption, [side, side], random))
    for (let j = 0; j < mean.length; j++) mean[j] = mean[j]! + pixels[j]! / count
  }
  return mean
}

test('three stages from nothing lower the held-out loss, and pictures come to be of their captions', async () => {
  const folder = await temporaryFolder()
  await writePictures(join(folder, 'pictures'), 40)
  await writeBase(join(folder, 'base'))
  const prompts = captions.flatMap((prompt) => [1, 2, 3].map((seed) => ({ prompt, seed })))
  const job: TrainingJob = {
    id: 'learns',
    folder: join(folder, 'job'),
    base: join(folder, 'base'),
    cacheDir: join(folder, 'cache'),
    manifest: join(folder, 'pictures', 'manifest.jsonl'),
    seed: 3,
    start: { kind: 'random' },
    method: { kind: 'full' },
    stages: [
      { ...stage, kind: 'vae', resolution: side, batchSize: 8, steps: 250, learningRate: 2e-3 },
      { ...stage, kind: 'pixel', condition: 'class' },
      { ...stage, kind: 'align', trainTextEncoder: true, steps: 900 },
      {
        ...stage,
        kind: 'aesthetic',
        resolution: side,
        multiAspect: true,
        minAestheticScore: 6,
        steps: 450,
      },
    ],
    samples: { every: 1e9, prompts, steps: 12, guidanceScale: 4 },
    checkpointEvery: 200,
    keepCheckpoints: 1,
    heldOutShare: 0.1,
    maxMicroStepMs: 1e9,
  }
  const { events, outcome } = await run(job)
  expect(outcome).toEqual({ kind: 'succeeded' })
  const reports = ofType(events, 'stage_finished')
  for (const { kind, heldOut, deviceMs } of reports) {
    const [before, after] = [heldOut!.lossBefore, heldOut!.lossAfter].map((loss) => loss.toFixed(4))
    console.log(`${kind}: held-out loss ${before} → ${after} in ${(deviceMs / 1000).toFixed(0)} s`)
  }
  expect(reports.map(({ kind }) => kind)).toEqual(['vae', 'pixel', 'align', 'aesthetic'])
  for (const { heldOut } of reports) expect(heldOut!.lossAfter).toBeLessThan(heldOut!.lossBefore)

  const types = new Map<string, Float64Array>()
  for (const caption of captions) types.set(caption, await typical(caption))
  const samples = ofType(events, 'sample').filter((sample) => sample.stage === 3)
  expect(samples).toHaveLength(prompts.length)
  let [own, others, nearest] = [0, 0, 0]
  for (const { file, prompt } of samples) {
    const pixels = await pixelsOf(join(job.folder, file))
    const distances = new Map([...types].map(([caption, mean]) => [caption, distance(pixels, mean)]))
    const mine = distances.get(prompt)!
    own += mine / samples.length
    for (const [caption, value] of distances)
      if (caption !== prompt) others += value / samples.length / (captions.length - 1)
    if (mine === Math.min(...distances.values())) nearest += 1 / samples.length
  }
  console.log(
    `distance to the mean picture of its own caption ${own.toFixed(1)}, of the others ${others.toFixed(1)}; nearest to its own: ${(100 * nearest).toFixed(0)} %`,
  )
  expect(own).toBeLessThan(0.7 * others)
  expect(nearest).toBeGreaterThan(0.4)
})
