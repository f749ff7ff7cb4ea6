/** A fine-tuning job as the rest of the program sees it, and how it is read from its row. */
import { randomUUID } from 'node:crypto'
import type { Project } from '../access/project.ts'
import type { StageReport, TrainingJob } from '../training/job.ts'
import type { FineTuningJob as JobRow } from '../storage/client/client.ts'
import type { EnergySource } from '../energy/footprint.ts'
import type { JobPlan } from './plan.ts'
import type { JobParameters } from './specification.ts'
import type { FineTuningState } from './states.ts'

/** Why a job failed: for people, and for programs. */
export interface Failure {
  readonly code: FailureCode
  readonly message: string
}

export type FailureCode =
  | 'bad_dataset' // it holds what cannot be trained on, and the job was to fail then
  | 'training_failed'
  | 'device_failed'
  | 'storage_failed'
  | 'server_failed' // the server died under it several times

/** What becomes of a job whose dataset has bad items. */
export type OnBadData = 'fail' | 'skip'

/** What was used. */
export interface Usage {
  /** Work that was lost and done again included. */
  readonly deviceMs: number
  readonly joules: number
  /** Undefined before anything was used. */
  readonly energySource: EnergySource | undefined
}

/** What a stage changed and used. */
export type FinishedStage = Omit<StageReport, 'type'> & {
  readonly joules: number
  readonly energySource: EnergySource
}

export interface FineTuningJob {
  /** `ftjob_…` */
  readonly id: string
  readonly project: Project
  /** Jobs run in its order. */
  readonly number: number
  readonly state: FineTuningState
  /** It pauses as soon as the work at hand is done. */
  readonly pauseAsked: boolean
  readonly attempt: number
  readonly requestId: string
  /** The model's name and version when the job was created, and the folder that it lay in. */
  readonly model: string
  readonly modelVersion: string
  readonly base: string
  readonly datasetId: string
  readonly suffix: string | undefined
  readonly onBadData: OnBadData
  readonly parameters: JobParameters
  readonly plan: JobPlan
  /** In the snapshot of its dataset; undefined until that is made. */
  readonly pictures: { readonly used: number; readonly leftOut: number } | undefined
  /** Optimiser steps of all stages. */
  readonly progress: { readonly step: number; readonly steps: number }
  readonly expectedEnd: Date | undefined
  readonly usage: Usage
  readonly reports: readonly FinishedStage[]
  readonly createdAt: Date
  readonly startedAt: Date | undefined
  readonly finishedAt: Date | undefined
  /** Of a failed one. */
  readonly error: Failure | undefined
}

const prefix = 'ftjob_'

/** A job and its queue job share one UUID. */
export const newJobId = (): string => `${prefix}${randomUUID().replaceAll('-', '')}`

/** Folders of other names are not ours to remove. */
export const isJobId = (name: string): boolean => /^ftjob_[0-9a-f]{32}$/.test(name)
export const isDeploymentId = (name: string): boolean => /^dep_[0-9a-f]{32}$/.test(name)

/** A checkpoint or sample that is made again, after a crash, is the same one. Steps count through all stages. */
export const checkpointIdOf = (jobId: string, { step }: { readonly step: number }): string =>
  `ftckpt_${jobId.slice(prefix.length)}_${step}`
export const sampleIdOf = (
  jobId: string,
  { step, index }: { readonly step: number; readonly index: number },
): string => `ftsmpl_${jobId.slice(prefix.length)}_${step}_${index}`
export const eventIdOf = (jobId: string, sequence: number): string =>
  `ftevent_${jobId.slice(prefix.length)}_${sequence}`

export const newDeploymentId = (): string => `dep_${randomUUID().replaceAll('-', '')}`

export const queueIdOf = (jobId: string): string =>
  jobId.slice(prefix.length).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

export const jobIdOf = (queueId: string): string => `${prefix}${queueId.replaceAll('-', '')}`

export function toJob(row: JobRow): FineTuningJob {
  return {
    id: row.id,
    project: row.project as Project,
    number: row.number,
    state: row.state,
    pauseAsked: row.pauseAsked,
    attempt: row.attempt,
    requestId: row.requestId,
    model: row.model,
    modelVersion: row.modelVersion,
    base: row.base,
    datasetId: row.datasetId,
    suffix: row.suffix ?? undefined,
    onBadData: row.onBadData as OnBadData,
    parameters: row.parameters as unknown as JobParameters,
    plan: row.plan as unknown as JobPlan,
    pictures:
      row.pictures === null || row.leftOut === null
        ? undefined
        : { used: row.pictures, leftOut: row.leftOut },
    progress: { step: row.step, steps: row.steps },
    expectedEnd: row.expectedEnd ?? undefined,
    usage: {
      deviceMs: row.deviceMs,
      joules: row.joules,
      energySource: (row.energySource as EnergySource | null) ?? undefined,
    },
    reports: row.reports as unknown as readonly FinishedStage[],
    createdAt: row.createdAt,
    startedAt: row.startedAt ?? undefined,
    finishedAt: row.finishedAt ?? undefined,
    error:
      row.errorCode === null || row.errorMessage === null
        ? undefined
        : { code: row.errorCode as FailureCode, message: row.errorMessage },
  }
}

export interface JobFolders {
  readonly folder: string
  readonly cacheDir: string
}

/** What the engine is given to run. */
export function toTrainingJob(
  { id, base, parameters }: Pick<FineTuningJob, 'id' | 'base' | 'parameters'>,
  { folder, cacheDir }: JobFolders,
  maxMicroStepMs: number,
): TrainingJob {
  return {
    id,
    folder,
    base,
    cacheDir,
    manifest: manifestOf(folder),
    ...parameters,
    maxMicroStepMs,
  }
}

/** The snapshot of its dataset in a job's folder. */
export const manifestOf = (folder: string): string => `${folder}/manifest.jsonl`
