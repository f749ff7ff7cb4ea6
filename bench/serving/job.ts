/** A job that never ends, on pictures of random colours. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { MersenneTwister } from '../../src/diffusion/mersenne-twister.ts'
import { writeManifest } from '../../src/training/data/manifest.ts'
import type { TrainingItem, TrainingJob } from '../../src/training/job.ts'
import { completeStage } from '../../src/training/stage-defaults.ts'

const pictures = 32

export interface JobPlace {
  readonly folder: string
  readonly base: string
  /** Side of the pictures and of the model's square bucket. */
  readonly baseSize: number
  readonly maxMicroStepMs: number
}

/** All weights are trained, with the defaults of an `align` stage; nothing is saved, sampled or judged on the way. */
export async function endlessJob({ folder, base, baseSize, maxMicroStepMs }: JobPlace): Promise<TrainingJob> {
  await mkdir(folder, { recursive: true })
  const manifest = join(folder, 'manifest.jsonl')
  await writeManifest(manifest, await makePictures(folder, baseSize))
  const wishes = { kind: 'align', resolution: baseSize, steps: 1_000_000, batchSize: 16 } as const
  return {
    id: 'endless',
    folder: join(folder, 'job'),
    base,
    cacheDir: join(folder, 'cache'),
    manifest,
    seed: 1,
    start: { kind: 'base' },
    method: { kind: 'full' },
    stages: [completeStage(wishes, { baseSize, parameters: 1e6 }, 'full')],
    samples: { every: 1_000_000, prompts: [], steps: 1, guidanceScale: 1 },
    checkpointEvery: 1_000_000,
    keepCheckpoints: 1,
    heldOutShare: 0,
    maxMicroStepMs,
  }
}

async function makePictures(folder: string, side: number): Promise<TrainingItem[]> {
  const random = new MersenneTwister(1)
  const items: TrainingItem[] = []
  for (let i = 0; i < pictures; i++) {
    const [r, g, b] = [random.next() % 256, random.next() % 256, random.next() % 256]
    const create = { width: side, height: side, channels: 3, background: { r, g, b } } as const
    const bytes = await sharp({ create }).png().toBuffer()
    const file = join(folder, `${i}.png`)
    await writeFile(file, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const captions = [`the colour ${r}, ${g}, ${b}`]
    items.push({ id: `${i}`, file, sha256, width: side, height: side, captions })
  }
  return items
}
