/** A trained model as it is shipped: half-precision weights, the card with the data's licences, and what is kept of the training. */
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { openCheckpoint, type Component } from '../../src/weights/checkpoint.ts'
import { linkFile, linkFolder } from '../../src/weights/file-links.ts'
import { fromFloat32 } from '../../src/weights/floats.ts'
import { writeFolder, writeJson } from '../../src/weights/folder-writer.ts'
import { readFloats } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'

export interface Packaging {
  /** A job's folder, as `atelier finetune` leaves it. */
  readonly job: string
  /** Its result in the diffusers layout. */
  readonly model: string
  /** Made; whatever else is there but the card's own parts is replaced by the caller. */
  readonly out: string
}

/** Rows of the loss that are kept; more are averaged together. */
const keptRows = 500

export async function packageModel({ job, model, out }: Packaging): Promise<void> {
  const checkpoint = await openCheckpoint(model)
  await writeFolder(out, async (folder) => {
    for (const component of [checkpoint.transformer, checkpoint.textEncoder, checkpoint.vae])
      await writeHalves(component, join(folder, component.name))
    for (const { name, folder: from } of [
      { name: 'scheduler', folder: checkpoint.scheduler.folder },
      { name: 'tokenizer', folder: checkpoint.tokenizer.folder },
    ])
      await linkFolder(from, join(folder, name))
    await linkFile(join(checkpoint.folder, 'model_index.json'), join(folder, 'model_index.json'))
    await copyFile(fileURLToPath(new URL('LICENCES.md', import.meta.url)), join(folder, 'LICENCES.md'))
    await writeRecord(job, join(folder, 'training'))
  })
}

async function writeHalves({ name, config, tensors }: Component, folder: string): Promise<void> {
  await mkdir(folder)
  const halves = new Map<string, TensorSource>()
  for (const [key, location] of tensors)
    halves.set(key, {
      dtype: 'F16',
      shape: location.shape,
      data: fromFloat32('F16', await readFloats(location)),
    })
  const isText = name === 'text_encoder'
  const file = isText ? 'model.safetensors' : 'diffusion_pytorch_model.safetensors'
  await writeSafetensors(join(folder, file), halves, new Map([['format', 'pt']]))
  await writeJson(join(folder, 'config.json'), isText ? { ...config, torch_dtype: 'float16' } : config)
}

/** The loss as CSV, and a sheet a stage: a row for each time that samples were made, a column for each prompt. */
async function writeRecord(job: string, folder: string): Promise<void> {
  await mkdir(folder)
  await copyFile(join(job, 'job.json'), join(folder, 'job.json'))
  await writeFile(join(folder, 'loss.csv'), thinned(await readFile(join(job, 'metrics.csv'), 'utf8')))
  const samples = await readdir(join(job, 'samples')).catch(() => [])
  for (const [stage, files] of Map.groupBy(
    samples.sort((a, b) => (a < b ? -1 : 1)),
    (name) => name.slice(0, 2),
  ))
    await writeSheet(join(job, 'samples'), files, join(folder, `samples-of-stage-${Number(stage) + 1}.webp`))
}

/** Consecutive rows of a stage as their mean, at the last one's step. */
function thinned(csv: string): string {
  const [header = '', ...lines] = csv.trimEnd().split('\r\n')
  const rows = lines.map((line) => line.split(',').map(Number))
  const columns = header.split(',')
  const [stage, step] = [columns.indexOf('stage'), columns.indexOf('stage_step')]
  const each = Math.ceil(rows.length / keptRows)
  const groups = Map.groupBy(rows, (row) => `${row[stage]} ${Math.ceil(row[step]! / each)}`)
  const means = [...groups.values()].map((group) =>
    columns.map((name, column) => {
      if (/step$|^stage$/.test(name)) return group.at(-1)![column]!
      return Number((group.reduce((sum, row) => sum + row[column]!, 0) / group.length).toPrecision(5))
    }),
  )
  return `${[header, ...means.map((row) => row.join(','))].join('\r\n')}\r\n`
}

/** @param files `SS-NNNNNN-II.webp`, in order */
async function writeSheet(from: string, files: readonly string[], out: string): Promise<void> {
  const rows = [...Map.groupBy(files, (name) => name.slice(3, 9)).values()]
  // The first, the last, and some between.
  const most = 8
  const kept = rows.filter((_, index) => {
    const place = (at: number) => Math.floor((at * (most - 1)) / Math.max(1, rows.length - 1))
    return rows.length <= most || index === rows.length - 1 || place(index) !== place(index - 1)
  })
  const side = 128
  const columns = Math.max(...kept.map((row) => row.length))
  const pictures = await Promise.all(
    kept.flatMap((row, y) =>
      row.map(async (name, x) => ({
        input: await sharp(join(from, name)).resize(side, side, { fit: 'contain' }).toBuffer(),
        left: x * side,
        top: y * side,
      })),
    ),
  )
  await sharp({
    create: { width: columns * side, height: kept.length * side, channels: 3, background: 'white' },
  })
    .composite(pictures)
    .webp({ quality: 80 })
    .toFile(out)
}
