/** A generation and its pictures as the rest of the program sees them, and how they are read from their rows. */
import { randomBytes, randomUUID } from 'node:crypto'
import type { SchedulerName } from '../diffusion/solvers.ts'
import type { Bucket } from '../diffusion/buckets.ts'
import { coverScale } from '../diffusion/enlarge.ts'
import { sumEnergy, type EnergySource, type EnergyUse } from '../energy/footprint.ts'
import type { PolicyErrorCode } from '../policy/errors.ts'
import type { PhaseTimings, Priority, Receipt } from '../engine/pool.ts'
import type { Generation as GenerationRow, Image as ImageRow } from '../storage/client/client.ts'
import type { GenerationParameters, ImageFormat } from './parameters.ts'

export interface ImageRecord {
  /** `img_…`, 128 random bits. */
  readonly id: string
  readonly generationId: string
  readonly index: number
  readonly seed: number
  /** With `seed`, `count` 1 and the other parameters: this picture alone. */
  readonly seedIndex: number
  readonly width: number
  readonly height: number
  /** The size at which the model made it. */
  readonly bucket: Bucket
  readonly format: ImageFormat
  readonly sizeBytes: number
  readonly sha256: string
  readonly blobKey: string
  readonly createdAt: Date
  readonly promptTruncated: boolean
  readonly timings: PhaseTimings
  /** Undefined for a picture from before there were receipts. */
  readonly receipt: Receipt | undefined
  /** What it took of the device's energy; null where nothing is known of that, both. */
  readonly joules: number | null
  readonly energySource: EnergySource | null
  readonly modelVersion: string
  readonly parameters: GenerationParameters
}

/** Why a generation failed; the device's own words go to the log, not to the caller. */
export type FailureCode =
  | 'unknown_model'
  | 'device_failed'
  | 'generation_failed'
  | 'storage_failed'
  | 'server_failed' // the server died under it several times
  | PolicyErrorCode

/** Whether a picture has more pixels than the model made of what it shows. */
export const isUpscaled = ({ bucket, width, height }: Pick<ImageRecord, 'bucket' | 'width' | 'height'>) =>
  coverScale(bucket, { width, height }) > 1

export interface Failure {
  readonly code: FailureCode
  readonly message: string
}

interface Common {
  /** `gen_…` */
  readonly id: string
  readonly parameters: GenerationParameters
  readonly requestId: string
  readonly user: string | undefined
  /** Of the request that asked for it, where that is traced. */
  readonly traceparent: string | undefined
  readonly createdAt: Date
  /** How often a worker has taken it up. */
  readonly attempt: number
  readonly priority: Priority
  /** When the pictures should be there. */
  readonly deadline: Date | undefined
  /** After which steps previews are made. */
  readonly previewSteps: readonly number[]
}

/** What all pictures of a generation used together. */
export interface GenerationReceipt {
  readonly deviceMs: number
  readonly rowSteps: number
  /** Over all row-steps. */
  readonly meanBatchRows: number
  readonly maxBatchRows: number
  /** The text embeddings of every picture were there already. */
  readonly promptCached: boolean
  readonly devices: readonly string[]
  readonly energy: EnergyUse | undefined
}

/** Where a generation's time went; a phase is that of the picture which spent most in it. */
export interface GenerationTimings {
  /** From acceptance to the start of work. */
  readonly queuedMs: number
  readonly encodeMs: number
  readonly denoiseMs: number
  readonly decodeMs: number
  /** From acceptance to the end. */
  readonly totalMs: number
}

export type QueuedGeneration = Common & { readonly state: 'queued' }
export type RunningGeneration = Common & { readonly state: 'running'; readonly startedAt: Date }
export type SucceededGeneration = Common & {
  readonly state: 'succeeded'
  readonly startedAt: Date
  readonly finishedAt: Date
  readonly modelVersion: string
  readonly images: readonly ImageRecord[]
  readonly timings: GenerationTimings
  /** Undefined for a generation from before there were receipts. */
  readonly receipt: GenerationReceipt | undefined
}
export type FailedGeneration = Common & {
  readonly state: 'failed'
  /** Undefined where no device had begun. */
  readonly startedAt: Date | undefined
  readonly finishedAt: Date
  readonly error: Failure
}
export type CancelledGeneration = Common & {
  readonly state: 'cancelled'
  /** Undefined where no device had begun. */
  readonly startedAt: Date | undefined
  readonly finishedAt: Date
}

export type SettledGeneration = SucceededGeneration | FailedGeneration | CancelledGeneration
export type Generation = QueuedGeneration | RunningGeneration | SettledGeneration

/** What is known of a generation that is not final, beyond its row. */
export interface Outlook {
  /** Steps over all of its pictures; only while it runs. */
  readonly progress?: { readonly step: number; readonly steps: number }
  /** How many generations wait before it; only while it waits. */
  readonly queuePosition?: number
  /** Expected time to its end. */
  readonly etaSeconds?: number
}

export type GenerationStatus = Generation & Outlook

export function isSettled(generation: Generation): generation is SettledGeneration {
  return generation.state !== 'queued' && generation.state !== 'running'
}

const generationPrefix = 'gen_'

/** A generation and its queue job share one UUID. */
export const newGenerationId = (): string => `${generationPrefix}${randomUUID().replaceAll('-', '')}`
export const newImageId = (): string => `img_${randomBytes(16).toString('hex')}`

export const jobIdOf = (generationId: string): string =>
  generationId.slice(generationPrefix.length).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

export const generationIdOf = (jobId: string): string => `${generationPrefix}${jobId.replaceAll('-', '')}`

/** The columns that hold the parameters; `seed` is a bigint there, since a Prisma Int is 32 bits wide. */
export function toColumns({
  seed,
  ...parameters
}: GenerationParameters): Omit<GenerationParameters, 'seed'> & { seed: bigint } {
  return { ...parameters, seed: BigInt(seed) }
}

function toParameters(row: GenerationRow): GenerationParameters {
  return {
    model: row.model,
    prompt: row.prompt,
    negativePrompt: row.negativePrompt,
    width: row.width,
    height: row.height,
    count: row.count,
    seed: Number(row.seed),
    seedIndex: row.seedIndex,
    steps: row.steps,
    guidanceScale: row.guidanceScale,
    scheduler: row.scheduler as SchedulerName,
    cleanCaption: row.cleanCaption,
    format: row.format as ImageFormat,
    compression: row.compression,
  }
}

export function toImageRecord(row: ImageRow & { generation: GenerationRow }): ImageRecord {
  return {
    id: row.id,
    generationId: row.generationId,
    index: row.index,
    seed: Number(row.seed),
    seedIndex: row.seedIndex,
    width: row.width,
    height: row.height,
    bucket: { width: row.bucketWidth, height: row.bucketHeight },
    format: row.format as ImageFormat,
    sizeBytes: row.sizeBytes,
    sha256: row.sha256,
    blobKey: row.blobKey,
    createdAt: row.createdAt,
    promptTruncated: row.promptTruncated,
    timings: {
      waitMs: row.waitMs,
      encodeMs: row.encodeMs,
      denoiseMs: row.denoiseMs,
      decodeMs: row.decodeMs,
      computeMs: row.computeMs,
    },
    receipt: toReceipt(row),
    joules: row.joules,
    energySource: row.energySource as EnergySource | null,
    modelVersion: row.modelVersion,
    parameters: toParameters(row.generation),
  }
}

function toReceipt(row: ImageRow): Receipt | undefined {
  const { device, deviceMs, rowSteps, meanBatchRows, maxBatchRows, promptCached } = row
  if (
    device === null ||
    deviceMs === null ||
    rowSteps === null ||
    meanBatchRows === null ||
    maxBatchRows === null ||
    promptCached === null
  )
    return undefined
  return { device, deviceMs, rowSteps, meanBatchRows, maxBatchRows, promptCached }
}

function sumReceipts(images: readonly ImageRecord[]): GenerationReceipt | undefined {
  const receipts = images.flatMap(({ receipt }) => receipt ?? [])
  if (receipts.length < images.length) return undefined
  const sum = (of: (receipt: Receipt) => number) =>
    receipts.reduce((total, receipt) => total + of(receipt), 0)
  const rowSteps = sum((receipt) => receipt.rowSteps)
  return {
    deviceMs: sum((receipt) => receipt.deviceMs),
    rowSteps,
    meanBatchRows: sum((receipt) => receipt.meanBatchRows * receipt.rowSteps) / Math.max(1, rowSteps),
    maxBatchRows: Math.max(...receipts.map((receipt) => receipt.maxBatchRows)),
    promptCached: receipts.every((receipt) => receipt.promptCached),
    devices: [...new Set(receipts.map((receipt) => receipt.device))].sort(),
    energy: energyOf(images),
  }
}

/** @returns undefined where it is not known of all of them */
export function energyOf(
  images: readonly Pick<ImageRecord, 'joules' | 'energySource'>[],
): EnergyUse | undefined {
  const known = images.flatMap(({ joules, energySource: source }) =>
    joules === null || source === null ? [] : [{ joules, source }],
  )
  return known.length === images.length ? sumEnergy(known) : undefined
}

/** @throws when a row breaks the database's own checks on what each state carries */
export function toGeneration({
  images,
  ...row
}: GenerationRow & { images: readonly ImageRow[] }): Generation {
  const common: Common = {
    id: row.id,
    parameters: toParameters(row),
    requestId: row.requestId,
    user: row.user ?? undefined,
    traceparent: row.traceparent ?? undefined,
    createdAt: row.createdAt,
    attempt: row.attempt,
    priority: row.priority,
    deadline: row.deadline ?? undefined,
    previewSteps: row.previewSteps,
  }
  const column = <K extends 'startedAt' | 'finishedAt' | 'modelVersion' | 'errorCode' | 'errorMessage'>(
    name: K,
  ) => {
    const value = row[name]
    if (value === null) throw new Error(`generation ${row.id} is ${row.state} and has no ${name}`)
    return value
  }
  switch (row.state) {
    case 'queued':
      return { ...common, state: 'queued' }
    case 'running':
      return { ...common, state: 'running', startedAt: column('startedAt') }
    case 'succeeded': {
      const [startedAt, finishedAt] = [column('startedAt'), column('finishedAt')]
      const records = images
        .toSorted((a, b) => a.index - b.index)
        .map((image) => toImageRecord({ ...image, generation: row }))
      const longest = (phase: 'encodeMs' | 'denoiseMs' | 'decodeMs') =>
        Math.max(...records.map(({ timings }) => timings[phase]))
      return {
        ...common,
        state: 'succeeded',
        startedAt,
        finishedAt,
        modelVersion: column('modelVersion'),
        images: records,
        timings: {
          queuedMs: startedAt.getTime() - row.createdAt.getTime(),
          encodeMs: longest('encodeMs'),
          denoiseMs: longest('denoiseMs'),
          decodeMs: longest('decodeMs'),
          totalMs: finishedAt.getTime() - row.createdAt.getTime(),
        },
        receipt: sumReceipts(records),
      }
    }
    case 'failed':
      return {
        ...common,
        state: 'failed',
        startedAt: row.startedAt ?? undefined,
        finishedAt: column('finishedAt'),
        error: { code: column('errorCode') as FailureCode, message: column('errorMessage') },
      }
    case 'cancelled':
      return {
        ...common,
        state: 'cancelled',
        startedAt: row.startedAt ?? undefined,
        finishedAt: column('finishedAt'),
      }
  }
}
