/** What a micro-batch costs before the device has anything to do with it: noise, cached latents and texts, and decoding. */
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Tokenizer } from '../src/text/tokenizer.ts'
import { writeManifest } from '../src/training/data/manifest.ts'
import { readPicture } from '../src/training/data/pictures.ts'
import { RandomNumbers } from '../src/training/data/randomness.ts'
import { StageData } from '../src/training/data/stage-data.ts'
import { diffusionProcess } from '../src/training/diffusion-process.ts'
import type { TrainingItem, TrainingJob } from '../src/training/job.ts'
import { completeStage } from '../src/training/stage-defaults.ts'
import type { Benchmark, Figure } from './report.ts'
import { temporaryFolder } from './temporary-folder.ts'

type Options = Readonly<Record<'rows' | 'tokens' | 'width' | 'rounds', number>>

/** Latents are 4 channels at an eighth of the side. */
const [latentChannels, latentScale] = [4, 8]
const noiseLength = 64 * 1024
const photo = { width: 4000, height: 3000 }

export const trainingData: Benchmark<Options> = {
  name: 'training-data',
  description: "what making a micro-batch of cached latents and texts costs, at PixArt-α's sizes",
  options: {
    rows: { description: 'pictures of a micro-batch', fallback: 4 },
    tokens: { description: 'text tokens of a caption', fallback: 30 },
    width: { description: 'of a text embedding', fallback: 4096 },
    rounds: { description: 'how often each is timed', fallback: 50 },
  },
  async run({ rows, tokens, width, rounds }, tell) {
    const folder = temporaryFolder()
    tell('making pictures')
    const items = await makePictures(folder)
    const noise = new Float32Array(noiseLength)
    const figures: Figure[] = [
      await timed(`${noiseLength} normal numbers`, rounds, (step) =>
        new RandomNumbers({ purpose: 'noise', seed: 1, stage: 0, step, sample: 0 }).fillNormal(noise),
      ),
      await timed('a 12-megapixel JPEG read, checked and decoded for 512 pixels', rounds, () =>
        readPicture(items[0]!, { width: 512, height: 512 }),
      ),
    ]
    for (const resolution of [256, 512]) {
      tell(`preparing pictures of ${resolution} pixels`)
      const data = await openData(folder, { items, resolution, rows, tokens, width })
      for await (const { done, of } of data.prepare()) if (done === of) tell(`${of} are prepared`)
      const { name, unit, values } = await timed(`a row at ${resolution} pixels`, rounds, (step) =>
        data.microBatch(step, 0),
      )
      figures.push({ name, unit, values: values.map((ms) => ms / rows) })
    }
    return {
      method: [
        `Micro-batches of ${rows} pictures with captions of ${tokens} tokens, ${width} wide; latents and embeddings are in memory.`,
        'A row is its share of that: order, noise, a sample of the latents, patches, noising, text and mask.',
      ],
      figures,
    }
  },
}

async function timed(name: string, rounds: number, measured: (round: number) => unknown): Promise<Figure> {
  const values: number[] = []
  for (let round = -rounds; round < rounds; round++) {
    const startedMs = performance.now()
    await measured(round + rounds)
    if (round >= 0) values.push(performance.now() - startedMs)
  }
  return { name, unit: 'ms', values }
}

async function makePictures(folder: string): Promise<readonly TrainingItem[]> {
  const { width, height } = photo
  return Promise.all(
    Array.from({ length: 8 }, async (_, i): Promise<TrainingItem> => {
      const file = join(folder, `${i}.jpg`)
      const noise = { type: 'gaussian', mean: 100 + i, sigma: 30 } as const
      const bytes = await sharp({ create: { width, height, channels: 3, background: 'grey', noise } })
        .jpeg()
        .toBuffer()
      await writeFile(file, bytes)
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      return { id: `picture-${i}`, file, sha256, width, height, captions: [`picture ${i}`] }
    }),
  )
}

interface Sizes {
  readonly items: readonly TrainingItem[]
  readonly resolution: number
  readonly rows: number
  readonly tokens: number
  readonly width: number
}

async function openData(
  folder: string,
  { items, resolution, rows, tokens, width }: Sizes,
): Promise<StageData> {
  const manifest = join(folder, 'manifest.jsonl')
  await writeManifest(manifest, items)
  const model = { baseSize: resolution, parameters: 1 }
  const stage = completeStage({ kind: 'align', resolution, batchSize: rows, steps: 1000 }, model, 'full')
  const job: TrainingJob = {
    id: 'bench',
    folder,
    base: folder,
    cacheDir: folder,
    manifest,
    seed: 1,
    start: { kind: 'random' },
    method: { kind: 'full' },
    stages: [stage],
    samples: { every: 1, prompts: [], steps: 1, guidanceScale: 1 },
    checkpointEvery: 1,
    keepCheckpoints: 1,
    heldOutShare: 0,
    maxMicroStepMs: 1,
  }
  const tokenizer: Tokenizer = {
    encode: (text, maxLength) => ({
      ids: new Int32Array(maxLength).fill(text.length, 0, tokens),
      mask: new Float32Array(maxLength).fill(1, 0, tokens),
      length: tokens,
      truncated: false,
    }),
  }
  return StageData.open({
    job,
    stageIndex: 0,
    rows,
    layout: {
      patchSize: 2,
      latentChannels,
      latentScale,
      scalingFactor: 0.18215,
      baseSize: resolution / latentScale / 2,
      interpolationScale: 1,
      captionWidth: width,
      microConditioned: false,
    },
    encode: {
      image: ({ data }) => {
        const length = (data.length / 3 / latentScale ** 2) * latentChannels
        return Promise.resolve({ mean: new Float32Array(length), logvar: new Float32Array(length) })
      },
      text: ({ data }) => Promise.resolve(new Float32Array(data.length * width)),
    },
    versions: { vae: 'bench', text: 'bench' },
    tokenizer,
    process: diffusionProcess({
      trainTimesteps: 1000,
      predictionType: 'epsilon',
      betaSchedule: 'linear',
      betaStart: 1e-4,
      betaEnd: 0.02,
    }),
  })
}
