/** Whether there is in a dataset what each stage of a job needs: told when it is asked for, and held against the dataset's snapshot. */
import { mkdir } from 'node:fs/promises'
import { readManifest } from '../training/data/manifest.ts'
import type { TrainingItem, TrainingStage } from '../training/job.ts'
import { nameProblems, type StageCount, type ValidatedData } from './datasets.ts'
import { manifestOf, type Failure, type FineTuningJob } from './job.ts'

export type Verdict =
  | { readonly kind: 'valid'; readonly used: number; readonly leftOut: number }
  | { readonly kind: 'invalid'; readonly error: Failure }

/** What a job's data are judged by. */
export interface DataCounts {
  readonly pictures: number
  readonly leftOut: number
  readonly badCaptions: number
  readonly stages: readonly StageCount[]
}

/** What a job cannot train with; `parameter` names the field as a request has it. */
export interface DataFault {
  readonly parameter: string
  readonly message: string
}

type JudgedJob = Pick<FineTuningJob, 'datasetId' | 'onBadData' | 'parameters'>

/** Makes the job's folder with the manifest in it. */
export async function validate(job: JudgedJob, folder: string, datasets: ValidatedData): Promise<Verdict> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { items, leftOut, badCaptions } = await datasets.snapshot(job.datasetId, manifestOf(folder))
  const stages = await countForStages(readManifest(manifestOf(folder)), job.parameters.stages)
  const fault = await findFault(job, { pictures: items, leftOut, badCaptions, stages }, datasets)
  if (fault) return { kind: 'invalid', error: { code: 'bad_dataset', message: fault.message } }
  return { kind: 'valid', used: items, leftOut }
}

/** @returns for each stage what its filter leaves */
export async function countForStages(
  items: AsyncIterable<TrainingItem>,
  stages: readonly TrainingStage[],
): Promise<readonly StageCount[]> {
  const counts = stages.map((stage) => ({ stage, items: 0, unlabelled: 0, uncaptioned: 0 }))
  for await (const item of items) {
    for (const count of counts.filter(({ stage }) => fits(item, stage))) {
      count.items += 1
      if (item.label === undefined) count.unlabelled += 1
      if (item.captions.length === 0) count.uncaptioned += 1
    }
  }
  return counts
}

/** @returns the first thing that is wrong with a job's data, if anything is */
export async function findFault(
  { datasetId, onBadData, parameters }: JudgedJob,
  { pictures, leftOut, badCaptions, stages }: DataCounts,
  datasets: Pick<ValidatedData, 'problems'>,
): Promise<DataFault | undefined> {
  const bad = leftOut + badCaptions
  if (bad > 0 && onBadData === 'fail') {
    const problems = await nameProblems(datasets, datasetId)
    const message = `${bad} files of the dataset cannot be trained on (${problems}); mend or remove them, or ask for on_bad_data "skip"`
    return { parameter: 'dataset', message }
  }
  if (pictures === 0) return { parameter: 'dataset', message: 'the dataset has no pictures to train on' }
  for (const [index, { items, unlabelled, uncaptioned }] of stages.entries()) {
    const { minAestheticScore, kind, condition } = parameters.stages[index]!
    const fault = (field: string, message: string): DataFault => {
      const parameter = `stages.${index}.${field}`
      return { parameter, message: `${parameter}: ${message}` }
    }
    if (items === 0)
      return fault(
        'filter.min_aesthetic_score',
        `no picture of ${pictures} has an aesthetic score of ${minAestheticScore} or more`,
      )
    if (kind === 'vae') continue
    if (condition === 'class' && unlabelled > 0)
      return fault('train.condition', `it trains on labels, and ${unlabelled} of ${items} pictures have none`)
    if (condition === 'text' && uncaptioned === items)
      return fault('train.condition', `it trains on captions, and none of ${items} pictures has one`)
  }
  return undefined
}

const fits = ({ aestheticScore }: TrainingItem, { minAestheticScore }: TrainingStage): boolean =>
  minAestheticScore === undefined || (aestheticScore !== undefined && aestheticScore >= minAestheticScore)
