/** The recipe of the default model, from nothing: the first 200 steps of each of its stages, on fewer pictures. Takes about 20 minutes. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { makeDataset } from '../../recipes/emoji/dataset.ts'
import { pictureSize, writeInitialModel } from '../../recipes/emoji/default-model.ts'
import { defaultCache, Renders } from '../../recipes/emoji/render.ts'
import { temporaryFolder } from '../weights/folder.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const steps = 200

interface Job {
  readonly stages: readonly { readonly kind: string }[]
}

test('the first steps of every stage lower the loss on pictures that are held out', async () => {
  const folder = await temporaryFolder()
  const [pictures, base] = [join(folder, 'pictures'), join(folder, 'base')]
  const captions: string[] = []
  {
    await using renders = await Renders.open(defaultCache)
    for (const [seed, kind] of (['single', 'compositions', 'aesthetic'] as const).entries()) {
      const out = join(pictures, kind)
      await makeDataset({ out, count: 400, seed, kind, captions: 'dense', size: pictureSize }, renders)
      for (const line of (await readFile(join(out, 'captions.jsonl'), 'utf8')).trimEnd().split('\n'))
        captions.push(...(JSON.parse(line) as { captions: string[] }).captions)
    }
  }
  await writeInitialModel(base, { captions, seed: 1 })
  const { stages, ...recipe } = JSON.parse(
    await readFile(join(root, 'recipes', 'emoji', 'default-job.json'), 'utf8'),
  ) as Job
  const job = {
    ...recipe,
    model: base,
    dataset: pictures,
    held_out_share: 0.05,
    samples: null,
    stages: stages.map((stage) => ({ ...stage, steps })),
  }
  await writeFile(join(folder, 'job.json'), JSON.stringify(job))

  const child = spawn(
    process.execPath,
    [join(root, 'src', 'cli.ts'), 'finetune', 'job.json', '--out', 'job'],
    {
      cwd: folder,
      env: {
        ...process.env,
        ATELIER_DATA_DIR: join(folder, 'data'),
        ATELIER_MAX_TRAIN_MICRO_STEP_MS: '5000',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  onTestFinished(() => void child.kill('SIGKILL'))
  let told = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (told += text))
  expect(await once(child, 'exit')).toEqual([0, null])

  const losses = [...told.matchAll(/^stage (\d+) of \d+ \((\w+)\): loss ([\d.e+-]+) → ([\d.e+-]+) over/gm)]
  expect(losses.map(([, , kind]) => kind)).toEqual(stages.map(({ kind }) => kind))
  for (const [, , , before, after] of losses) expect(Number(after)).toBeLessThan(Number(before))
})
