/** What is kept of a training that took several jobs: how it was asked for, how the loss fell, and what samples looked like. */
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { csvHeader, csvRow, lineEnd } from '../../src/fine-tuning/metrics-csv.ts'
import type { StepMetrics } from '../../src/fine-tuning/reader.ts'

/** Rows of the loss that are kept of each job; more are averaged together. */
const keptRows = 60
/** Of a sheet; more are left out between the first and the last. */
const keptSamples = 6
const sampleSide = 128

/** @param jobs folders as `atelier finetune` leaves them, in the order in which they followed each other */
export async function writeTrainingRecord(jobs: readonly string[], folder: string): Promise<void> {
  await mkdir(folder)
  const rows: StepMetrics[] = []
  for (const [index, job] of jobs.entries()) {
    await copyFile(join(job, 'job.json'), join(folder, `job-${index + 1}.json`))
    const last = rows.at(-1)
    const [stagesBefore, stepsBefore] = last ? [last.stage + 1, last.step] : [0, 0]
    const own = readMetrics(await readFile(join(job, 'metrics.csv'), 'utf8'))
    rows.push(
      ...thinned(own).map((row) => ({
        ...row,
        stage: row.stage + stagesBefore,
        step: row.step + stepsBefore,
      })),
    )
    await writeSheets(join(job, 'samples'), (stage) =>
      join(folder, `samples-of-stage-${stage + stagesBefore + 1}.webp`),
    )
  }
  await writeFile(join(folder, 'loss.csv'), [csvHeader, ...rows.map(csvRow)].join(''))
}

export function readMetrics(csv: string): readonly StepMetrics[] {
  const [header = '', ...lines] = csv.trimEnd().split(lineEnd)
  if (header + lineEnd !== csvHeader) throw new Error(`metrics.csv: expected ${csvHeader}, got ${header}`)
  return lines.map((line) => {
    const [step, stage, stageStep, loss, gradientNorm, learningRate, imagesPerSecond, deviceMs] = line
      .split(',')
      .map(Number) as [number, number, number, number, number, number, number, number]
    return { step, stage, stageStep, loss, gradientNorm, learningRate, imagesPerSecond, deviceMs }
  })
}

/** Consecutive rows of a stage as their mean, at the last one's step. */
function thinned(rows: readonly StepMetrics[]): readonly StepMetrics[] {
  const each = Math.ceil(rows.length / keptRows)
  const groups = Map.groupBy(rows, ({ stage, stageStep }) => `${stage} ${Math.ceil(stageStep / each)}`)
  return [...groups.values()].map((group) => {
    const { step, stage, stageStep } = group.at(-1)!
    const mean = (field: keyof StepMetrics) =>
      Number((group.reduce((sum, row) => sum + row[field], 0) / group.length).toPrecision(5))
    return {
      step,
      stage,
      stageStep,
      loss: mean('loss'),
      gradientNorm: mean('gradientNorm'),
      learningRate: mean('learningRate'),
      imagesPerSecond: mean('imagesPerSecond'),
      deviceMs: mean('deviceMs'),
    }
  })
}

/** A sheet a stage: a row for each time that samples were made, a column for each prompt. */
async function writeSheets(samples: string, sheetOf: (stage: number) => string): Promise<void> {
  // SS-NNNNNN-II.webp: stage, step, prompt.
  const names = (await readdir(samples).catch(() => [])).toSorted((a, b) => (a < b ? -1 : 1))
  for (const [stage, files] of Map.groupBy(names, (name) => Number(name.slice(0, 2)))) {
    const rows = [...Map.groupBy(files, (name) => name.slice(3, 9)).values()]
    await writeSheet(samples, spread(rows, keptSamples), sheetOf(stage))
  }
}

/** @returns at most `count` of them, evenly, with the first and the last */
function spread<T>(all: readonly T[], count: number): readonly T[] {
  if (all.length <= count) return all
  return Array.from(
    { length: count },
    (_, index) => all[Math.round((index * (all.length - 1)) / (count - 1))]!,
  )
}

async function writeSheet(from: string, rows: readonly (readonly string[])[], out: string): Promise<void> {
  const columns = Math.max(...rows.map((row) => row.length))
  const pictures = await Promise.all(
    rows.flatMap((row, y) =>
      row.map(async (name, x) => ({
        input: await sharp(join(from, name)).resize(sampleSide, sampleSide, { fit: 'contain' }).toBuffer(),
        left: x * sampleSide,
        top: y * sampleSide,
      })),
    ),
  )
  await sharp({
    create: {
      width: columns * sampleSide,
      height: rows.length * sampleSide,
      channels: 3,
      background: 'white',
    },
  })
    .composite(pictures)
    .webp({ quality: 80 })
    .toFile(out)
}
