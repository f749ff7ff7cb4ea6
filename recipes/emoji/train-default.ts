/**
 * `npm run train:default`: the default model from nothing, by the stages of default-job.json. Run again, it goes on where it was
 * ended: what is done lies in data/recipes/emoji/default.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeDataset } from './dataset.ts'
import { pictureSize, writeInitialModel } from './default-model.ts'
import { packageModel } from './package-model.ts'
import type { Kind } from './recipes.ts'
import { defaultCache, Renders } from './render.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const work = join(root, 'data', 'recipes', 'emoji', 'default')
const jobFile = join(root, 'recipes', 'emoji', 'default-job.json')
const [pictures, base, job] = ['pictures', 'base', 'job'].map((name) => join(work, name)) as [
  string,
  string,
  string,
]

/** All are in one folder: a stage leaves out what has too low a score. */
const parts: readonly { readonly kind: Kind; readonly count: number; readonly seed: number }[] = [
  { kind: 'single', count: 12_000, seed: 1 },
  { kind: 'compositions', count: 8_000, seed: 2 },
  { kind: 'aesthetic', count: 6_000, seed: 3 },
]

await makePictures()
if (!existsSync(base)) await writeInitialModel(base, { captions: await captionsOf(pictures), seed: 1 })
const status = await finetune()
if (status === 0) await packageModel({ jobs: [job], out: join(root, 'models', 'emoji') })
process.exitCode = status

async function makePictures(): Promise<void> {
  await using renders = await Renders.open(defaultCache)
  for (const { kind, count, seed } of parts) {
    const out = join(pictures, kind)
    if (existsSync(out)) continue
    console.log(`${count} pictures: ${kind}`)
    const unfinished = join(work, `${kind}.unfinished`)
    await rm(unfinished, { recursive: true, force: true })
    await makeDataset({ out: unfinished, count, seed, kind, captions: 'dense', size: pictureSize }, renders)
    await rename(unfinished, out)
  }
}

async function captionsOf(folder: string): Promise<readonly string[]> {
  const files = await Promise.all(
    parts.map(({ kind }) => readFile(join(folder, kind, 'captions.jsonl'), 'utf8')),
  )
  return files.flatMap((file) =>
    file
      .trimEnd()
      .split('\n')
      .flatMap((line) => (JSON.parse(line) as { captions: readonly string[] }).captions),
  )
}

/** As anyone would: by the command, which saves when it is interrupted. @returns its exit status */
function finetune(): Promise<number> {
  const child = spawn(process.execPath, [join(root, 'src', 'cli.ts'), 'finetune', jobFile, '--out', job], {
    stdio: 'inherit',
    // Nobody is served meanwhile: whole batches at once.
    env: { ATELIER_MAX_TRAIN_MICRO_STEP_MS: '5000', ...process.env },
  })
  // A terminal's Ctrl-C reaches both; the child ends when it has saved.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}
