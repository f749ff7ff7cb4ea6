/** Before a job waits for its turn: the dataset's snapshot, and whether there is in it what each stage needs. */
import { mkdir } from 'node:fs/promises'
import { readManifest } from '../training/data/manifest.ts'
import type { TrainingItem, TrainingStage } from '../training/job.ts'
import { nameProblems, type ValidatedData } from './datasets.ts'
import { manifestOf, type Failure, type FineTuningJob } from './job.ts'

export type Verdict =
  | { readonly kind: 'valid'; readonly used: number; readonly leftOut: number }
  | { readonly kind: 'invalid'; readonly error: Failure }

/** Makes the job's folder with the manifest in it. */
export async function validate(
  { datasetId, onBadData, parameters }: Pick<FineTuningJob, 'datasetId' | 'onBadData' | 'parameters'>,
  folder: string,
  datasets: ValidatedData,
): Promise<Verdict> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { items: pictures, leftOut, badCaptions } = await datasets.snapshot(datasetId, manifestOf(folder))
  if (leftOut + badCaptions > 0 && onBadData === 'fail') {
    const problems = await nameProblems(datasets, datasetId)
    return bad(
      `${leftOut + badCaptions} files of the dataset cannot be trained on (${problems}); mend or remove them, or ask for on_bad_data "skip"`,
    )
  }
  if (pictures === 0) return bad('the dataset has no pictures to train on')
  const counts = parameters.stages.map((stage) => ({ stage, fitting: 0, unlabelled: 0 }))
  for await (const item of readManifest(manifestOf(folder))) {
    for (const count of counts.filter(({ stage }) => fits(item, stage))) {
      count.fitting += 1
      if (item.label === undefined) count.unlabelled += 1
    }
  }
  for (const [index, { stage, fitting, unlabelled }] of counts.entries()) {
    const { minAestheticScore, kind, condition } = stage
    if (fitting === 0)
      return bad(
        `stages.${index}: no picture of ${pictures} has an aesthetic score of ${minAestheticScore} or more`,
      )
    if (kind !== 'vae' && condition === 'class' && unlabelled > 0)
      return bad(`stages.${index}: it trains on labels, and ${unlabelled} of ${fitting} pictures have none`)
  }
  return { kind: 'valid', used: pictures, leftOut }
}

const fits = ({ aestheticScore }: TrainingItem, { minAestheticScore }: TrainingStage): boolean =>
  minAestheticScore === undefined || (aestheticScore !== undefined && aestheticScore >= minAestheticScore)

const bad = (message: string): Verdict => ({ kind: 'invalid', error: { code: 'bad_dataset', message } })
