/** What this room needs of datasets, in its own words. */
import type { Dataset, DatasetProblem } from '../datasets/dataset.ts'
import { isCaptionProblem } from '../datasets/problems.ts'
import type { Datasets as AllOfDatasets, TrainableCount } from '../datasets/service.ts'
import type { Transaction } from '../storage/database.ts'
import { FineTuningError } from './errors.ts'

/** Of one project. */
export type Datasets = Pick<
  AllOfDatasets,
  'get' | 'snapshot' | 'problems' | 'requireReady' | 'countTrainable' | 'countBadCaptions'
>

/** Of the pictures that a stage's filter leaves. */
export type StageCount = TrainableCount

/** What a job's validation asks of its dataset, wherever that is kept. */
export interface ValidatedData {
  /** Writes a manifest of what can be trained on. */
  snapshot(
    id: string,
    file: string,
  ): Promise<{ readonly items: number; readonly leftOut: number; readonly badCaptions: number }>
  problems(
    id: string,
    page: { readonly limit: number },
  ): Promise<{ readonly data: readonly Pick<DatasetProblem, 'path' | 'code' | 'effect'>[] }>
}

/** @throws {FineTuningError} `unknown_dataset`, `invalid_job` when it is not ready */
export async function requireDataset(datasets: Pick<Datasets, 'get'>, id: string): Promise<Dataset> {
  const dataset = await datasets.get(id)
  if (!dataset)
    throw new FineTuningError('unknown_dataset', `there is no dataset ${JSON.stringify(id)}`, {
      parameter: 'dataset',
    })
  if (dataset.state !== 'ready')
    throw new FineTuningError(
      'invalid_job',
      `dataset: expected a ready one, got one that is ${dataset.state}`,
      {
        parameter: 'dataset',
      },
    )
  return dataset
}

const problemsNamed = 3

/** @returns the first problems that keep files or captions out of it, in a line for people */
export async function nameProblems(datasets: Pick<ValidatedData, 'problems'>, id: string): Promise<string> {
  const { data } = await datasets.problems(id, { limit: 100 })
  const keptOut = data.filter((each) => each.effect === 'left_out' || isCaptionProblem(each))
  const named = keptOut.slice(0, problemsNamed).map(({ path, code }) => `${path}: ${code}`)
  return keptOut.length > problemsNamed ? `${named.join(', ')}, …` : named.join(', ')
}

/** Whether a job that has not ended works with it. */
export async function datasetInUse(transaction: Transaction, datasetId: string): Promise<boolean> {
  const job = await transaction.fineTuningJob.findFirst({
    where: { datasetId, finishedAt: null },
    select: { id: true },
  })
  return job !== null
}
