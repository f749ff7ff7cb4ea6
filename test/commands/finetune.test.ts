/** `atelier finetune` as it is called: jobs on the golden checkpoint and a handful of pictures. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import sharp from 'sharp'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { finetune } from '../../src/commands/finetune.ts'
import { readJobFile } from '../../src/commands/finetune/job-file.ts'
import { TerminalProgress } from '../../src/commands/finetune/progress.ts'
import { modelExport } from '../../src/commands/model/export.ts'
import { readConfig } from '../../src/config.ts'
import type { TrainingEvent } from '../../src/training/job.ts'
import { openCheckpoint } from '../../src/weights/checkpoint.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { stage as smallStage } from '../training/data/small-set.ts'
import { temporaryFolder } from '../weights/folder.ts'

const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url))
const model = fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url))

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const environment = (folder: string) => ({ ...process.env, ATELIER_DATA_DIR: join(folder, 'data') })

async function atelier(folder: string, ...args: readonly string[]): Promise<Ended> {
  try {
    const options = { cwd: folder, env: environment(folder) }
    return { code: 0, ...(await promisify(execFile)(process.execPath, [cli, 'finetune', ...args], options)) }
  } catch (error) {
    return error as Ended
  }
}

const stage = {
  kind: 'align',
  resolution: 32,
  steps: 6,
  batch_size: 4,
  learning_rate: 1e-3,
  gradient_clip: 1,
}
const job = { model, dataset: 'pictures', stages: [stage], held_out_share: 0.25, seed: 1 }

/** A folder with a job file and eight pictures beside it. */
async function folderOf(wanted: unknown = job): Promise<string> {
  const folder = await temporaryFolder()
  await mkdir(join(folder, 'pictures'))
  for (let i = 0; i < 8; i++) {
    const background = { r: 32 * i, g: 255 - 32 * i, b: 128 }
    const picture = sharp({ create: { width: 48, height: 32 + 4 * i, channels: 3, background } })
    await picture.png().toFile(join(folder, 'pictures', `${i}.png`))
    await writeFile(join(folder, 'pictures', `${i}.txt`), `picture number ${i}`)
  }
  await writeFile(join(folder, 'job.json'), JSON.stringify(wanted))
  return folder
}

const transformerIn = (model: string): Promise<Buffer> =>
  readFile(join(model, 'transformer', 'diffusion_pytorch_model.safetensors'))
const transformerOf = (job: string): Promise<Buffer> => transformerIn(join(job, 'model'))

test('a job runs to its end, and its result is a checkpoint like the one that it began with', async () => {
  const folder = await folderOf()
  const { code, stdout, stderr } = await atelier(folder, 'job.json', '--out', 'tuned')
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(stdout).toContain(`8 pictures from ${join(folder, 'pictures')}`)
  expect(stdout).toContain('stage 1 of 1 (align): 6 steps of 4 pictures at 32 px')
  expect(stdout).toMatch(/^stage 1 of 1 \(align\): 6\/6 {2}loss \d\.\d+ {2}[\d.e+]+ images\/s {2}ETA 0 s$/m)
  expect(stdout).toMatch(
    /loss \d\.\d+ → \d\.\d+ over 2 held out; changed most: [\w.]+ by [\d.e+-]+ %; \d+ s of device time/,
  )
  const tuned = join(folder, 'tuned')
  expect(stdout).toContain(`the result is in ${join(tuned, 'model')}`)
  const [before, after] = [await openCheckpoint(model), await openCheckpoint(join(tuned, 'model'))]
  expect(after.transformer.fingerprint).not.toBe(before.transformer.fingerprint)
  expect(after.vae.fingerprint).toBe(before.vae.fingerprint)
  expect(new Set(after.transformer.tensors.keys())).toEqual(new Set(before.transformer.tensors.keys()))
})

test('a checkpoint on the way is exported as a model', async () => {
  const folder = await folderOf({ ...job, checkpoint_every: 2 })
  expect(await atelier(folder, 'job.json', '--out', 'tuned')).toMatchObject({ code: 0 })
  const tuned = join(folder, 'tuned')
  const names = await readdir(join(tuned, 'checkpoints'))
  expect(names.length).toBeGreaterThan(1)
  const config = readConfig(environment(folder))
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined)
  onTestFinished(() => log.mockRestore())

  await modelExport(config, tuned, join(folder, 'last'), { form: 'model' })
  expect(await transformerIn(join(folder, 'last'))).toEqual(await transformerIn(join(tuned, 'model')))
  await modelExport(config, tuned, join(folder, 'earlier'), { form: 'model', checkpoint: names[0]! })
  expect(await transformerIn(join(folder, 'earlier'))).not.toEqual(await transformerIn(join(tuned, 'model')))
  expect((await openCheckpoint(join(folder, 'earlier'))).vae.fingerprint).toBe(
    (await openCheckpoint(model)).vae.fingerprint,
  )

  const missing = modelExport(config, tuned, join(folder, 'none'), { form: 'model', checkpoint: '00-000099' })
  await expect(missing).rejects.toThrow(`expected --checkpoint as one of ${names.join(', ')}, got 00-000099`)
  const foreign = modelExport(config, folder, join(folder, 'none'), { form: 'model' })
  await expect(foreign).rejects.toThrow('expected the folder of a job')
})

/** Of each step its number, its stage and stage's step, and loss, gradient norm and learning rate. */
async function metricsOf(folder: string): Promise<readonly (readonly string[])[]> {
  const [header, ...rows] = (await readFile(join(folder, 'metrics.csv'), 'utf8')).trimEnd().split('\r\n')
  expect(header).toMatch(/^step,stage,stage_step,loss,gradient_norm,learning_rate,/)
  return rows.map((row) => row.split(',').slice(0, 6))
}

test('an interrupted job saves, is gone on with, and comes to the same weights', async () => {
  // Enough that the signal comes before the last, however late it is noticed.
  const steps = 300
  const folder = await folderOf({ ...job, stages: [{ ...stage, steps }] })
  const child = spawn(process.execPath, [cli, 'finetune', 'job.json', '--out', 'broken'], {
    cwd: folder,
    env: environment(folder),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    // The first step has been taken.
    if (!output.includes(`/${steps}`) && (output + text).includes(`/${steps}`)) child.kill('SIGINT')
    output += text
  })
  expect(await once(child, 'exit')).toEqual([130, null])
  expect(output).toContain('saving; interrupt again to stop at once')
  expect(output).toContain(`saved; to go on: atelier finetune job.json --out ${join(folder, 'broken')}`)
  expect(await readdir(join(folder, 'broken', 'checkpoints'))).toHaveLength(1)

  expect(await atelier(folder, 'job.json', '--out', 'broken')).toMatchObject({ code: 0 })
  expect(await atelier(folder, 'job.json', '--out', 'whole')).toMatchObject({ code: 0 })
  expect(await transformerOf(join(folder, 'broken'))).toEqual(await transformerOf(join(folder, 'whole')))

  // A row for every step, told once, and the same.
  const rows = await metricsOf(join(folder, 'broken'))
  expect(rows.map(([step]) => step)).toEqual(Array.from({ length: steps }, (_, index) => String(index + 1)))
  expect(rows).toEqual(await metricsOf(join(folder, 'whole')))

  // Nothing is left to do, and another job is not mistaken for this one.
  const again = await atelier(folder, 'job.json', '--out', 'whole')
  expect(again).toMatchObject({ code: 0 })
  expect(again.stdout).toContain(`the result is in ${join(folder, 'whole', 'model')}`)
  await writeFile(join(folder, 'other.json'), JSON.stringify({ ...job, seed: 2 }))
  const other = await atelier(folder, 'other.json', '--out', 'whole')
  expect(other).toMatchObject({ code: 1 })
  expect(other.stderr).toContain('holds another job')
})

test('files that cannot be used fail the job, or are told of and left out of it', async () => {
  const folder = await folderOf()
  await writeFile(join(folder, 'pictures', 'broken.png'), 'no picture')
  const failed = await atelier(folder, 'job.json')
  expect(failed).toMatchObject({ code: 2 })
  // What it left stands in nobody's way.
  expect(await atelier(folder, 'job.json')).toEqual(failed)
  expect(failed.stdout).toMatch(/^broken\.png: left out: /m)
  expect(failed.stderr).toContain('broken.png: unreadable_picture')

  const adapted = { ...job, on_bad_data: 'skip', method: { type: 'lora', rank: 2 } }
  await writeFile(join(folder, 'adapted.json'), JSON.stringify(adapted))
  const { code, stdout } = await atelier(folder, 'adapted.json')
  expect(code).toBe(0)
  expect(stdout).toContain('without 1 files that cannot be used')
  const adapter = join(folder, 'adapted', 'adapter')
  expect(stdout).toContain(`the result is in ${adapter}`)
  const { tensors } = await openSafetensors(join(adapter, 'adapter_model.safetensors'))
  expect([...tensors.values()].some(({ shape }) => shape[0] === 2)).toBe(true)
})

test('a dry run tells what the pictures lack, and writes nothing', async () => {
  const folder = await folderOf({ ...job, stages: [{ ...stage, filter: { min_aesthetic_score: 5 } }] })
  const { code, stderr } = await atelier(folder, 'job.json', '--dry-run')
  expect(code).toBe(2)
  expect(stderr).toContain('stages.0.filter.min_aesthetic_score: no picture of 8 has')
  expect((await readdir(folder)).toSorted()).toEqual(['job.json', 'pictures'])
})

test('a dry run tells the plan and writes nothing', async () => {
  const folder = await folderOf()
  const { code, stdout } = await atelier(folder, 'job.json', '--dry-run')
  expect(code).toBe(0)
  expect(stdout).toContain('trains 53,376 of 219,359 parameters on 8 pictures, seed 1')
  expect(stdout).toMatch(
    /^stage 1 \(align\): 6 steps of 4 pictures at 32 px, learning rate 0\.001; 4 at once, /m,
  )
  expect((await readdir(folder)).toSorted()).toEqual(['data', 'job.json', 'pictures'])
})

describe('a wrong job file is refused in the words of the API, before anything is begun', () => {
  test.each([
    ['an unknown field', { ...job, stepz: 1 }, 'job.json: stepz: expected only model, dataset,'],
    ['what only a server has', { ...job, suffix: 'x' }, 'job.json: suffix: expected only'],
    [
      'a value out of range',
      { ...job, stages: [{ ...stage, steps: 0 }] },
      'job.json: stages.0.steps: expected a whole number from 1 to 10000000, got 0',
    ],
    ['no stages', { model, dataset: 'pictures' }, 'job.json: stages: expected a list of 1 to 16 stages'],
    [
      'what no schema can say',
      { ...job, method: { type: 'full', rank: 4 } },
      'job.json: method.rank: expected only with method.type "lora"',
    ],
    [
      'what the model does not have',
      { ...job, method: { type: 'lora', targets: ['nowhere'] } },
      'job.json: method.targets: expected ends of names of linear layers, such as to_q, to_k, to_v, to_out.0, got "nowhere"',
    ],
  ])('%s', async (_, wanted, message) => {
    const folder = await folderOf(wanted)
    const told = vi.spyOn(console, 'error').mockReturnValue()
    onTestFinished(() => told.mockRestore())
    expect(await finetune(readConfig({}), join(folder, 'job.json'), { out: join(folder, 'job') })).toBe(2)
    expect(told.mock.calls.flat()).toEqual([expect.stringContaining(message)])
    expect(await readdir(folder)).not.toContain('job')
  })

  test('what is no job at all', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'text.json'), 'a job')
    await expect(readJobFile(join(folder, 'text.json'))).rejects.toThrow(/text\.json: expected JSON/)
    await expect(readJobFile(join(folder, 'none.json'))).rejects.toThrow(
      /none\.json: expected a job, as JSON/,
    )
  })
})

describe('progress', () => {
  const step = (done: number): TrainingEvent => ({
    type: 'step',
    stage: 0,
    step: done,
    steps: 4,
    loss: 0.5,
    gradientNorm: 1,
    learningRate: 1e-3,
    imagesPerSecond: 12,
    deviceMs: 10,
    etaMs: 3_725_000,
  })

  function told(isTTY: boolean): { readonly progress: TerminalProgress; readonly text: () => string } {
    let [text, nowMs] = ['', 0]
    const terminal = { isTTY, columns: 70, write: (more: string) => void (text += more) }
    const progress = new TerminalProgress(trainingJob, terminal, () => (nowMs += 6_000))
    return { progress, text: () => text }
  }
  const trainingJob = { stages: [{ ...smallStage, steps: 4 }] }

  test('on a terminal it is a bar that is written over, and makes room for what stays', () => {
    const { progress, text } = told(true)
    for (const done of [1, 2]) progress.note(step(done))
    progress.line('a note')
    progress.end()
    const bar = (full: number) => `[${'#'.repeat(full)}${'-'.repeat(24 - full)}]`
    const lines = [`${bar(6)} 1/4  loss 0`, `${bar(12)} 2/4  loss 0`]
    const shown = lines.map((line) => `\r\u001b[Kstage 1 of 1 (align) ${line}.5000  12.0 im`.slice(0, 4 + 69))
    expect(text()).toBe(`${shown.join('')}\r\u001b[Ka note\n`)
  })

  test('elsewhere it is a line every ten seconds, and one at the end', () => {
    const { progress, text } = told(false)
    for (const done of [1, 2, 3, 4]) progress.note(step(done))
    const line = (done: number) =>
      `stage 1 of 1 (align): ${done}/4  loss 0.5000  12.0 images/s  ETA 1 h 2 min\n`
    expect(text()).toBe(line(1) + line(3) + line(4))
  })
})
