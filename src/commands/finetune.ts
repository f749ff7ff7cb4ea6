/** `atelier finetune JOB`: runs a fine-tuning job without the server, by the code that the server runs it with. */
import { randomInt } from 'node:crypto'
import { basename, join, resolve } from 'node:path'
import { stat } from 'node:fs/promises'
import type { Config } from '../config.ts'
import { startPool, type Pool } from '../engine/pool.ts'
import { footprint } from '../energy/footprint.ts'
import { openEnergyMeter } from '../energy/meter.ts'
import { toTrainingJob } from '../fine-tuning/job.ts'
import { planJob } from '../fine-tuning/plan.ts'
import { completeJob, type JobParameters } from '../fine-tuning/specification.ts'
import { findFault, validate } from '../fine-tuning/validation.ts'
import { readPixArtConfig } from '../models/pixart.ts'
import { readFootprint, type ModelFootprint } from '../training/footprint.ts'
import type { TrainingJob, TrainingOutcome } from '../training/job.ts'
import { openCheckpoint } from '../weights/checkpoint.ts'
import { deviceOptions, fineTuningOptions, tellDevice } from './devices.ts'
import { FolderDataset } from './finetune/folder-dataset.ts'
import { inFile, JobFileError, readJobFile, type JobFile } from './finetune/job-file.ts'
import { findKnownJob, rememberJob, type KnownJob } from './finetune/job-folder.ts'
import { planLines } from './finetune/plan-lines.ts'
import { MetricsFile } from './finetune/metrics-file.ts'
import { duration, TerminalProgress } from './finetune/progress.ts'
import { JobUse } from './finetune/use.ts'
import { interruptedStatus, onInterruption } from './interruption.ts'
import { findModels, type ModelFolder } from './model-folder.ts'

export interface FinetuneOptions {
  /** The job's folder; beside whoever calls, and named after the file, unless given. */
  readonly out?: string
  readonly dryRun?: true
}

const exitStatus = { done: 0, failed: 1, wrongJob: 2, interrupted: interruptedStatus } as const

/** @returns the exit status: 2 for a job file that is wrong, 130 when the job was interrupted and can be gone on with */
export async function finetune(config: Config, file: string, options: FinetuneOptions): Promise<number> {
  try {
    const jobFile = await readJobFile(file)
    const [model] = await findModels([jobFile.model])
    const weights = await readFootprint(model.folder)
    const wanted: WantedJob = { file, jobFile, model, weights, baseSize: await baseSizeOf(model) }
    if (options.dryRun) return await plan(config, wanted)
    return await run(config, wanted, resolve(options.out ?? basename(file).replace(/\.json$/, '')))
  } catch (error) {
    if (!(error instanceof JobFileError)) throw error
    console.error(error.message)
    return exitStatus.wrongJob
  }
}

interface WantedJob {
  readonly file: string
  readonly jobFile: JobFile
  readonly model: ModelFolder
  readonly weights: ModelFootprint
  readonly baseSize: number
}

async function baseSizeOf({ folder }: ModelFolder): Promise<number> {
  const { transformer } = await openCheckpoint(folder)
  const { sampleSize } = readPixArtConfig(transformer.config)
  return sampleSize * (await readFootprint(folder)).pixelsPerLatent
}

/** @throws {JobFileError} */
const complete = ({ file, jobFile, weights, baseSize }: WantedJob): JobParameters =>
  inFile(file, () =>
    completeJob(jobFile.specification, {
      footprint: weights,
      baseSize,
      sources: jobFile.sources,
      randomSeed: randomInt(2 ** 48 - 1),
    }),
  )

/** Nothing is written; the model is loaded for what it costs. */
async function plan(config: Config, wanted: WantedJob): Promise<number> {
  const parameters = complete(wanted)
  const { rates, maxMicroStepMs } = fineTuningOptions(config)
  const tell = (line: string) => console.log(line)
  const { dataset, onBadData } = wanted.jobFile
  const pictures = new FolderDataset(dataset, tell)
  const counts = await pictures.count(parameters.stages)
  const fault = await findFault({ datasetId: dataset, onBadData, parameters }, counts, pictures)
  if (fault) throw new JobFileError(fault.message)
  const pool = await startPool(deviceOptions(config, [wanted.model]), (event) => tellDevice(event, tell))
  try {
    const costs = pool.trainingCosts(wanted.model.name)
    const { weights } = wanted
    const job = planJob({
      parameters,
      footprint: weights,
      costs,
      pictures: counts.pictures,
      maxMicroStepMs,
      rates,
      measured: [],
    })
    for (const line of planLines(parameters, job)) tell(line)
  } finally {
    await pool.close()
  }
  return exitStatus.done
}

async function run(config: Config, wanted: WantedJob, folder: string): Promise<number> {
  const { file, jobFile, model, weights } = wanted
  const [asked, version] = [jobFile.asked, weights.version]
  const known = await findKnownJob(folder, { asked, version })
  const begun = known ?? { asked, version, base: model.folder, parameters: complete(wanted) }
  const { maxMicroStepMs, rates, gpus } = fineTuningOptions(config)
  const cacheDir = join(config.dataDir, 'cache')
  const named = { id: basename(folder), base: begun.base, parameters: begun.parameters }
  const job = toTrainingJob(named, { folder, cacheDir }, maxMicroStepMs)
  const progress = new TerminalProgress(job, process.stdout)
  const tell = (line: string) => progress.line(line)
  if (!known) await begin(folder, begun, jobFile, tell)

  const interruption = onInterruption(() => tell('saving; interrupt again to stop at once'))
  const meter = await openEnergyMeter(rates, gpus)
  const pool = await startPool(deviceOptions(config, []), (event) => tellDevice(event, tell))
  const use = new JobUse(pool, meter)
  try {
    const { outcome, checkpoint } = await train(pool, job, progress, interruption.signal)
    const used = await use.end()
    const { kwh } = footprint(used, rates)
    tell(`${duration(used.deviceMs)} of device time, ${(1000 * kwh).toPrecision(2)} Wh`)
    if (outcome.kind !== 'succeeded') {
      tell(`saved; to go on: atelier finetune ${file} --out ${folder}`)
      return exitStatus.interrupted
    }
    tell(`the result is in ${await writeResult(pool, job, checkpoint)}`)
    return exitStatus.done
  } finally {
    progress.end()
    interruption.forget()
    await pool.close()
  }
}

/** @throws {JobFileError} when the pictures are not what the job needs */
async function begin(
  folder: string,
  job: KnownJob,
  { dataset, onBadData }: JobFile,
  tell: (line: string) => void,
): Promise<void> {
  const pictures = new FolderDataset(dataset, tell)
  const verdict = await validate(
    { datasetId: dataset, onBadData, parameters: job.parameters },
    folder,
    pictures,
  )
  if (verdict.kind === 'invalid') throw new JobFileError(verdict.error.message)
  await rememberJob(folder, job)
  const leftOut = verdict.leftOut === 0 ? '' : `, without ${verdict.leftOut} files that cannot be used`
  tell(`${verdict.used} pictures from ${dataset}${leftOut}`)
}

async function train(
  pool: Pool,
  job: TrainingJob,
  progress: TerminalProgress,
  pause: AbortSignal,
): Promise<{ readonly outcome: TrainingOutcome; readonly checkpoint: string | undefined }> {
  let checkpoint: string | undefined
  const metrics = new MetricsFile(job)
  try {
    const outcome = await pool.train(job, {
      pause,
      onEvent(event) {
        if (event.type === 'checkpoint') checkpoint = event.folder
        if (event.type === 'step') metrics.note(event)
        progress.note(event)
      },
    })
    return { outcome, checkpoint }
  } finally {
    await metrics.end()
  }
}

/** @returns where it is */
async function writeResult(pool: Pool, job: TrainingJob, checkpoint: string | undefined): Promise<string> {
  if (checkpoint === undefined) throw new Error('the job ended without a checkpoint')
  const form = job.method.kind === 'lora' ? 'adapter' : 'model'
  const out = join(job.folder, form)
  if (!(await exists(out))) await pool.exportCheckpoint({ job, checkpoint, out, form })
  return out
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
