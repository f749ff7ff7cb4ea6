/** A dataset and its pictures as the rest of the program knows them, and as rows hold them. */
import { randomBytes } from 'node:crypto'
import type { TrainingItem } from '../training/job.ts'
import type { Prisma } from '../storage/database.ts'
import type { DatasetFailureCode } from './errors.ts'
import type { CheckedItem, LabelSource } from './join.ts'
import { pictureFile } from './picture-files.ts'
import type { PictureFormat } from './pictures.ts'
import { problemEffects, type Problem, type ProblemCode, type ProblemEffect } from './problems.ts'

export interface DatasetCounts {
  /** Files that were looked at so far. */
  readonly filesRead: number
  readonly items: number
  readonly captioned: number
  readonly labelled: number
  readonly scored: number
  readonly problems: number
  /** Files that a problem keeps out of it. */
  readonly leftOut: number
  /** Of its pictures. */
  readonly sizeBytes: number
}

interface Common {
  readonly id: string
  readonly name: string
  readonly source:
    | { readonly kind: 'upload'; readonly receivedBytes: number; readonly expectedBytes: number | undefined }
    /** Relative to the root for such folders. */
    | { readonly kind: 'folder'; readonly folder: string }
  readonly labels: LabelSource
  readonly counts: DatasetCounts
  readonly createdAt: Date
}

export interface DatasetFailure {
  readonly code: DatasetFailureCode
  readonly message: string
}

export type Dataset =
  | (Common & { readonly state: 'receiving' | 'validating' })
  | (Common & { readonly state: 'ready'; readonly finishedAt: Date })
  | (Common & { readonly state: 'failed'; readonly finishedAt: Date; readonly error: DatasetFailure })

export interface DatasetItem extends Omit<CheckedItem, 'file'> {
  readonly datasetId: string
  readonly problems: readonly DatasetProblem[]
}

export interface DatasetProblem extends Problem {
  readonly effect: ProblemEffect
}

/** What can be changed of a picture; null takes it away. */
export interface ItemChanges {
  readonly captions?: readonly string[] | undefined
  readonly label?: string | null | undefined
  readonly aestheticScore?: number | null | undefined
}

/** What a job is given. */
export interface DatasetSummary {
  readonly items: number
  readonly captioned: number
  readonly labelled: number
  readonly scored: number
  /** Distinct ones. */
  readonly labels: number
  readonly leftOut: number
  /** Pictures whose caption could not be used, and that have no other. */
  readonly badCaptions: number
}

export const newDatasetId = (): string => `ds_${randomBytes(16).toString('hex')}`
/** Folders of other names are not ours to remove. */
export const isDatasetId = (name: string): boolean => /^ds_[0-9a-f]{32}$/.test(name)

type DatasetRow = Prisma.DatasetGetPayload<object>
type ItemRow = Prisma.DatasetItemGetPayload<object>
type ProblemRow = Prisma.DatasetProblemGetPayload<object>

export function toDataset(row: DatasetRow): Dataset {
  const { id, name, createdAt, state, folder, finishedAt, errorCode, errorMessage } = row
  const { filesRead, items, captioned, labelled, scored, problems, leftOut } = row
  const common: Common = {
    id,
    name,
    createdAt,
    labels: row.labels as LabelSource,
    source:
      folder === null
        ? {
            kind: 'upload',
            receivedBytes: Number(row.receivedBytes),
            expectedBytes: row.expectedBytes === null ? undefined : Number(row.expectedBytes),
          }
        : { kind: 'folder', folder },
    counts: {
      filesRead,
      items,
      captioned,
      labelled,
      scored,
      problems,
      leftOut,
      sizeBytes: Number(row.sizeBytes),
    },
  }
  switch (state) {
    case 'receiving':
    case 'validating':
      return { ...common, state }
    case 'ready':
      if (finishedAt === null) break
      return { ...common, state, finishedAt }
    case 'failed':
      if (finishedAt === null || errorCode === null || errorMessage === null) break
      return {
        ...common,
        state,
        finishedAt,
        error: { code: errorCode as DatasetFailureCode, message: errorMessage },
      }
  }
  throw new Error(`dataset ${id} is ${state} and lacks what goes with that`)
}

export function toItem({
  problems,
  position: _position,
  ...row
}: ItemRow & { problems: readonly ProblemRow[] }): DatasetItem {
  return {
    ...row,
    format: row.format as PictureFormat,
    label: row.label ?? undefined,
    aestheticScore: row.aestheticScore ?? undefined,
    problems: problems.map(toProblem),
  }
}

export function toProblem({ path, code, message, itemId }: ProblemRow): DatasetProblem {
  const known = code as ProblemCode
  return { path, code: known, message, effect: problemEffects[known], itemId: itemId ?? undefined }
}

/** @param folder of the dataset */
export function toTrainingItem(row: ItemRow, folder: string): TrainingItem {
  const { id, sha256, width, height, captions, label, aestheticScore } = row
  return {
    id,
    file: pictureFile(folder, sha256, row.format as PictureFormat),
    sha256,
    width,
    height,
    captions,
    ...(label !== null && { label }),
    ...(aestheticScore !== null && { aestheticScore }),
  }
}
