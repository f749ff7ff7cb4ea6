/** What a run tells, and its rows beside the job's own: steps, samples and checkpoints. What a resumed run tells again is written over. */
import type { Transaction } from '../storage/database.ts'
import type { SampleReport, StepReport } from '../training/job.ts'
import type { EnergyUse } from '../energy/footprint.ts'
import type { NewEvent } from './events.ts'
import { checkpointIdOf, sampleIdOf, type FinishedStage, type FineTuningJob } from './job.ts'
import { overallStep } from './specification.ts'

export type NewSample = Omit<SampleReport, 'type'>

export interface NewCheckpoint {
  readonly stage: number
  readonly step: number
  /** Relative to the job's folder. */
  readonly folder: string
  readonly sizeBytes: number
}

/** What a run has told since it was last written down. Steps count within their stage. */
export interface Told {
  readonly steps: readonly StepReport[]
  readonly samples: readonly NewSample[]
  readonly checkpoints: readonly NewCheckpoint[]
  /** All that there are now; undefined where that is not known. */
  readonly kept?: readonly string[] | undefined
  readonly reports: readonly FinishedStage[]
  readonly events: readonly NewEvent[]
  readonly deviceMs: number
  readonly energy: EnergyUse | undefined
}

export const nothingTold: Told = {
  steps: [],
  samples: [],
  checkpoints: [],
  reports: [],
  events: [],
  deviceMs: 0,
  energy: undefined,
}

/** A step that was taken again, after a crash, is written over. */
export async function writeSteps(
  transaction: Transaction,
  jobNumber: number,
  parameters: FineTuningJob['parameters'],
  steps: readonly StepReport[],
): Promise<void> {
  if (steps.length === 0) return
  const rows = steps.map(({ stage, step, loss, gradientNorm, learningRate, imagesPerSecond, deviceMs }) => ({
    step: overallStep(parameters, stage, step),
    loss,
    gradientNorm,
    learningRate,
    imagesPerSecond,
    deviceMs,
  }))
  await transaction.$executeRaw`
    INSERT INTO "FineTuningMetric" ("jobNumber", "step", "loss", "gradientNorm", "learningRate", "imagesPerSecond", "deviceMs")
    SELECT ${jobNumber}::int, told.* FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS told(
      "step" int, "loss" real, "gradientNorm" real, "learningRate" real, "imagesPerSecond" real, "deviceMs" real)
    ON CONFLICT ("jobNumber", "step") DO UPDATE SET "loss" = excluded."loss", "gradientNorm" = excluded."gradientNorm",
      "learningRate" = excluded."learningRate", "imagesPerSecond" = excluded."imagesPerSecond", "deviceMs" = excluded."deviceMs"`
}

export async function writeSamples(
  transaction: Transaction,
  jobId: string,
  samples: readonly NewSample[],
): Promise<void> {
  for (const { seed, ...rest } of samples) {
    const columns = { ...rest, jobId, seed: BigInt(seed) }
    const id = sampleIdOf(jobId, rest)
    await transaction.fineTuningSample.upsert({ where: { id }, create: { id, ...columns }, update: columns })
  }
}

export async function writeCheckpoints(
  transaction: Transaction,
  jobId: string,
  { checkpoints, kept }: Pick<Told, 'checkpoints' | 'kept'>,
): Promise<void> {
  for (const { sizeBytes, ...rest } of checkpoints) {
    const columns = { ...rest, jobId, sizeBytes: BigInt(sizeBytes) }
    const id = checkpointIdOf(jobId, rest)
    await transaction.fineTuningCheckpoint.upsert({
      where: { id },
      create: { id, ...columns },
      update: columns,
    })
  }
  if (kept)
    await transaction.fineTuningCheckpoint.deleteMany({ where: { jobId, folder: { notIn: [...kept] } } })
}
