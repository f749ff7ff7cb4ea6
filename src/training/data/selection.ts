/** Which pictures of a job a stage trains on, which it is judged by, and at what size. */
import { createHash } from 'node:crypto'
import { bucketsFor, nearestBucket, type Bucket } from '../../diffusion/buckets.ts'
import { preparePrompt } from '../../text/prompt.ts'
import type { TrainingItem, TrainingJob, TrainingStage } from '../job.ts'
import { TrainingDataError } from './errors.ts'
import type { FramedPicture } from './latent-cache.ts'

export interface StagePicture extends FramedPicture {
  /** Its place in the manifest. */
  readonly number: number
  /** As the tokenizer takes them; at least one, the empty text when there is no other. */
  readonly captions: readonly [string, ...string[]]
}

export interface Selection {
  readonly training: readonly StagePicture[]
  /** What the stage is judged by: of those held out, as many as tell enough, in the order of their hashes. */
  readonly heldOut: readonly StagePicture[]
  /** Distinct labels of the whole manifest, in order. */
  readonly classes: readonly string[]
}

/**
 * @param grid what a bucket's sides must be whole numbers of, in pixels
 * @throws {TrainingDataError} when nothing is left to train on, or it lacks what the stage conditions on
 */
export function selectPictures(
  items: readonly TrainingItem[],
  { seed, heldOutShare, stages }: Pick<TrainingJob, 'seed' | 'heldOutShare' | 'stages'>,
  stageIndex: number,
  grid: number,
): Selection {
  const stage = stages[stageIndex]!
  const where = `stage ${stageIndex + 1} (${stage.kind})`
  if (items.length === 0) throw new TrainingDataError(`${where}: there are no pictures to train on`)
  const held = heldOutRanks(items, { seed, heldOutShare })
  const buckets = bucketsOf(stage, grid, where)
  const kept = items.flatMap((item, number): StagePicture[] =>
    passes(item, stage)
      ? [{ item, number, bucket: nearestBucket(buckets, item), captions: captionsOf(item) }]
      : [],
  )
  const training = kept.filter(({ number }) => !held.has(number))
  if (training.length === 0) throw new TrainingDataError(`${where}: ${nothingLeft(items, stage)}`)
  requireConditions(training, stage, where)
  return {
    training,
    heldOut: kept
      .filter(({ number }) => held.has(number))
      .sort((a, b) => held.get(a.number)! - held.get(b.number)!)
      .slice(0, mostJudged),
    classes: [...new Set(items.flatMap(({ label }) => label ?? []))].sort(),
  }
}

const fewestToHoldOutFrom = 8

/** Judging takes a forward pass for each, before and after a stage. */
const mostJudged = 128

/** How many of a job's pictures no stage trains on: at least one of eight or more when a share is wanted at all; never all. */
export function heldOutCount(pictures: number, share: number): number {
  if (share <= 0 || pictures === 0) return 0
  const least = pictures >= fewestToHoldOutFrom ? 1 : 0
  return Math.min(pictures - 1, Math.max(least, Math.floor(pictures * share)))
}

/**
 * The pictures whose hashes come first, so that the choice does not depend on the stage, and copies of one picture stay on one
 * side but for the border.
 * @returns places in the manifest, each with its rank
 */
function heldOutRanks(
  items: readonly TrainingItem[],
  { seed, heldOutShare }: Pick<TrainingJob, 'seed' | 'heldOutShare'>,
): ReadonlyMap<number, number> {
  const count = heldOutCount(items.length, heldOutShare)
  if (count === 0) return new Map()
  const hashed = items.map(({ sha256 }, number) => ({
    number,
    hash: createHash('sha256').update(`${seed} ${sha256}`).digest('hex'),
  }))
  hashed.sort((a, b) => (a.hash === b.hash ? a.number - b.number : a.hash < b.hash ? -1 : 1))
  return new Map(hashed.slice(0, count).map(({ number }, rank) => [number, rank]))
}

const passes = ({ aestheticScore }: TrainingItem, { minAestheticScore }: TrainingStage): boolean =>
  minAestheticScore === undefined || (aestheticScore !== undefined && aestheticScore >= minAestheticScore)

/** What `bucketsFor` takes multiples of. */
const bucketGrid = 16

function bucketsOf(
  { resolution, multiAspect }: TrainingStage,
  grid: number,
  where: string,
): readonly Bucket[] {
  const step = multiAspect && bucketGrid % grid === 0 ? bucketGrid : grid
  if (!Number.isSafeInteger(resolution) || resolution < 1 || resolution % step !== 0) {
    throw new TrainingDataError(
      `${where}: resolution: expected a multiple of ${step} pixels, got ${resolution}`,
    )
  }
  if (!multiAspect) return [{ width: resolution, height: resolution }]
  return bucketsFor(resolution).filter(({ width, height }) => width % grid === 0 && height % grid === 0)
}

function captionsOf({ captions }: TrainingItem): readonly [string, ...string[]] {
  const [first = '', ...others] = captions
    .map((caption) => preparePrompt(caption, { cleanCaption: false }))
    .filter((caption) => caption !== '')
  return [first, ...others]
}

function nothingLeft(items: readonly TrainingItem[], { minAestheticScore }: TrainingStage): string {
  if (minAestheticScore === undefined) return `all ${items.length} pictures are held out`
  const scores = items.flatMap(({ aestheticScore }) => aestheticScore ?? [])
  const best =
    scores.length === 0 ? 'none has a score' : `the highest is ${scores.reduce((a, b) => Math.max(a, b))}`
  return `none of ${items.length} pictures that are not held out has an aesthetic score of at least ${minAestheticScore}; ${best}`
}

function requireConditions(
  pictures: readonly StagePicture[],
  { kind, condition }: TrainingStage,
  where: string,
): void {
  if (kind === 'vae') return
  if (condition === 'class' && pictures.every(({ item }) => item.label === undefined)) {
    throw new TrainingDataError(
      `${where}: trains on class labels, and none of ${pictures.length} pictures has one`,
    )
  }
  if (condition === 'text' && pictures.every(({ captions }) => captions[0] === '')) {
    throw new TrainingDataError(
      `${where}: trains on captions, and none of ${pictures.length} pictures has one`,
    )
  }
}
