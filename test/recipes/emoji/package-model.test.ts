import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { packageModel } from '../../../recipes/emoji/package-model.ts'
import { csvHeader, csvRow } from '../../../src/fine-tuning/metrics-csv.ts'
import { openCheckpoint } from '../../../src/weights/checkpoint.ts'
import { readFloats } from '../../../src/weights/safetensors.ts'
import { temporaryFolder } from '../../weights/folder.ts'

const golden = fileURLToPath(new URL('../../fixtures/golden/tiny-512/checkpoint', import.meta.url))

interface Told {
  readonly stages: readonly number[]
  readonly sampledAt?: readonly number[]
}

/** A job's folder as `atelier finetune` leaves it: `stages` are their steps. */
async function jobFolder(folder: string, { stages, sampledAt = [] }: Told): Promise<string> {
  await mkdir(join(folder, 'samples'), { recursive: true })
  await cp(golden, join(folder, 'model'), { recursive: true })
  await writeFile(join(folder, 'job.json'), JSON.stringify({ stages }))
  let step = 0
  const rows = stages.flatMap((steps, stage) =>
    Array.from({ length: steps }, (_, index) => {
      step += 1
      return csvRow({
        step,
        stage,
        stageStep: index + 1,
        loss: 1 / step,
        gradientNorm: 1,
        learningRate: 1e-3,
        imagesPerSecond: 10,
        deviceMs: 100,
      })
    }),
  )
  await writeFile(join(folder, 'metrics.csv'), [csvHeader, ...rows].join(''))
  for (const at of sampledAt)
    for (const prompt of ['00', '01']) {
      const picture = sharp({ create: { width: 64, height: 32, channels: 3, background: 'red' } })
      await picture.webp().toFile(join(folder, 'samples', `00-${String(at).padStart(6, '0')}-${prompt}.webp`))
    }
  return folder
}

test('the last job’s model is packaged in half precision, with the licences and the record of all jobs', async () => {
  const folder = await temporaryFolder()
  const first = await jobFolder(join(folder, 'first'), { stages: [700, 2] })
  const second = await jobFolder(join(folder, 'second'), { stages: [3], sampledAt: [1, 2, 3] })
  const out = join(folder, 'shipped')
  await mkdir(join(out, 'evaluation'), { recursive: true })
  await writeFile(join(out, 'README.md'), 'the card')
  await writeFile(join(out, 'evaluation', 'suite.json'), '{}')
  await writeFile(join(out, 'old.bin'), 'of an earlier one')

  await packageModel({ jobs: [first, second], out })

  expect((await readdir(out)).toSorted()).toEqual([
    'LICENCES.md',
    'README.md',
    'evaluation',
    'model_index.json',
    'scheduler',
    'text_encoder',
    'tokenizer',
    'training',
    'transformer',
    'vae',
  ])
  expect(await readFile(join(out, 'README.md'), 'utf8')).toBe('the card')
  expect((await readdir(folder)).toSorted()).toEqual(['first', 'second', 'shipped'])

  const [whole, halves] = [await openCheckpoint(golden), await openCheckpoint(out)]
  for (const component of ['transformer', 'textEncoder', 'vae'] as const) {
    const tensors = halves[component].tensors
    expect([...tensors.keys()].toSorted()).toEqual([...whole[component].tensors.keys()].toSorted())
    for (const [name, location] of tensors) {
      expect(location.dtype).toBe('F16')
      const exact = await readFloats(whole[component].tensors.get(name)!)
      const rounded = await readFloats(location)
      expect(rounded).toEqual(exact.map((value) => Math.f16round(value)))
    }
  }

  const rows = (await readFile(join(out, 'training', 'loss.csv'), 'utf8')).trimEnd().split('\r\n').slice(1)
  const table = rows.map((row) => row.split(',').map(Number) as [number, number, number, number])
  // Twelve of 702 steps a row; the second job is counted on.
  expect(table).toHaveLength(59 + 1 + 3)
  expect(table[0]).toEqual([12, 0, 12, 0.2586, 1, 1e-3, 10, 100])
  expect(table.at(-4)!.slice(0, 3)).toEqual([702, 1, 2])
  expect(table.at(-3)!.slice(0, 4)).toEqual([703, 2, 1, 1])
  const sheet = await sharp(join(out, 'training', 'samples-of-stage-3.webp')).metadata()
  expect([sheet.width, sheet.height]).toEqual([256, 384])
  expect(await readFile(join(out, 'training', 'job-1.json'), 'utf8')).toBe('{"stages":[700,2]}')
})

test('what another program wrote as metrics is refused, and the model that is there stays', async () => {
  const folder = await temporaryFolder()
  const job = await jobFolder(join(folder, 'job'), { stages: [1] })
  await writeFile(join(job, 'metrics.csv'), 'loss\r\n1\r\n')
  const out = join(folder, 'shipped')
  await mkdir(out)
  await writeFile(join(out, 'README.md'), 'the card')
  await expect(packageModel({ jobs: [job], out })).rejects.toThrow('metrics.csv: expected step,stage')
  expect(await readdir(out)).toEqual(['README.md'])
})
