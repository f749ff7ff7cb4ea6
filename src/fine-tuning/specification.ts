/** Pure: what a job asks for → every number of it, or what is wrong with it. */
import { isAbsolute, relative, resolve, sep } from 'node:path'
import type { ModelFootprint } from '../training/footprint.ts'
import { loraFootprint } from '../training/footprint.ts'
import type { SamplePlan, TrainingJob, TrainingMethod } from '../training/job.ts'
import { completeStage, defaultLora, isLarge, type StageWishes } from '../training/stage-defaults.ts'
import { FineTuningError } from './errors.ts'

/** A job as it is asked for; what is undefined has a default. */
export interface JobSpecification {
  readonly method?:
    | { readonly kind: 'full' }
    | {
        readonly kind: 'lora'
        readonly rank?: number | undefined
        readonly alpha?: number | undefined
        readonly targets?: readonly string[] | undefined
      }
    | undefined
  readonly start?: StartWish | undefined
  readonly stages: readonly StageWishes[]
  readonly seed?: number | undefined
  readonly samples?: { readonly [K in keyof SamplePlan]?: SamplePlan[K] | undefined } | undefined
  readonly checkpointEvery?: number | undefined
  readonly keepCheckpoints?: number | undefined
  readonly heldOutShare?: number | undefined
}

export type StartWish =
  | { readonly kind: 'base' }
  | { readonly kind: 'random' }
  /** `source`: a folder within the one that is configured for such. */
  | { readonly kind: 'dit'; readonly source: string }

/** All that decides what a job computes, but for its pictures and where things lie. */
export type JobParameters = Pick<
  TrainingJob,
  'seed' | 'start' | 'method' | 'stages' | 'samples' | 'checkpointEvery' | 'keepCheckpoints' | 'heldOutShare'
>

export interface SpecificationContext {
  readonly footprint: ModelFootprint
  /** Side of the model's square bucket in pixels. */
  readonly baseSize: number
  /** Where a DiT may lie; undefined: nowhere. */
  readonly sources: string | undefined
  /** Drawn where the job says none. */
  readonly randomSeed: number
}

const defaults = { checkpointEvery: 500, keepCheckpoints: 2, heldOutShare: 0.05 }
const sampleDefaults: SamplePlan = { every: 500, prompts: [], steps: 20, guidanceScale: 4.5 }

/** A text encoder of this size is trained in the memory of a workstation; T5-XXL has 4.8 billion. */
const largestTrainedEncoder = 400e6

/** @throws {FineTuningError} `invalid_job`, naming the field as a request has it */
export function completeJob(wishes: JobSpecification, context: SpecificationContext): JobParameters {
  const { footprint, baseSize, sources } = context
  const [quantised] = footprint.quantised
  if (quantised !== undefined)
    throw invalid('model', `expected a model with its weights in full, got one with a quantised ${quantised}`)
  const start = resolveStart(wishes.start ?? { kind: 'base' }, sources)
  const method = completeMethod(wishes, start, footprint)
  const model = { baseSize, parameters: footprint.transformer.parameters }
  const stages = wishes.stages.map((stage) =>
    completeStage({ ...stage, condition: stage.condition ?? conditionOf(stage, start) }, model, method.kind),
  )
  const job: JobParameters = {
    seed: wishes.seed ?? context.randomSeed,
    start,
    method,
    stages,
    samples: {
      every: wishes.samples?.every ?? sampleDefaults.every,
      prompts: wishes.samples?.prompts ?? sampleDefaults.prompts,
      steps: wishes.samples?.steps ?? sampleDefaults.steps,
      guidanceScale: wishes.samples?.guidanceScale ?? sampleDefaults.guidanceScale,
    },
    checkpointEvery: wishes.checkpointEvery ?? defaults.checkpointEvery,
    keepCheckpoints: wishes.keepCheckpoints ?? defaults.keepCheckpoints,
    heldOutShare: wishes.heldOutShare ?? defaults.heldOutShare,
  }
  checkStages(job, footprint)
  return job
}

/** A transformer that knows no text yet learns pixels from labels; one that does goes on with its captions. */
const conditionOf = ({ kind }: StageWishes, { kind: start }: JobParameters['start']): 'text' | 'class' =>
  kind === 'pixel' && start !== 'base' ? 'class' : 'text'

/** LoRA is what a large model is trained with unless the job says otherwise, or begins with weights that an adapter cannot mend. */
function completeMethod(
  { method, stages }: JobSpecification,
  start: JobParameters['start'],
  footprint: ModelFootprint,
): TrainingMethod {
  const needsAll =
    start.kind !== 'base' || stages.some(({ kind, trainTextEncoder }) => kind === 'vae' || trainTextEncoder)
  const kind = method?.kind ?? (!needsAll && isLarge(footprint.transformer) ? 'lora' : 'full')
  if (kind === 'full') return { kind }
  if (needsAll)
    throw invalid(
      'method.type',
      'expected "full" for a job that begins with other weights than the model\'s, has a vae stage or trains the text encoder, got "lora"',
    )
  const wishes = method?.kind === 'lora' ? method : undefined
  const rank = wishes?.rank ?? defaultLora.rank
  const targets = wishes?.targets ?? defaultLora.targets
  for (const target of targets) {
    if (loraFootprint(footprint, { rank, targets: [target] }).modules.length === 0)
      throw invalid(
        'method.targets',
        `expected ends of names of linear layers, such as ${defaultLora.targets.join(', ')}, got ${JSON.stringify(target)}`,
      )
  }
  return { kind, rank, alpha: wishes?.alpha ?? rank, targets }
}

function resolveStart(wish: StartWish, sources: string | undefined): JobParameters['start'] {
  if (wish.kind !== 'dit') return wish
  if (sources === undefined)
    throw invalid(
      'start.source',
      'expected no DiT: the server has no folder for them (ATELIER_TRAIN_SOURCES)',
    )
  const folder = resolve(sources, wish.source)
  if (isAbsolute(wish.source) || leadsOut(relative(sources, folder)))
    throw invalid(
      'start.source',
      `expected a folder within ATELIER_TRAIN_SOURCES, got ${JSON.stringify(wish.source)}`,
    )
  return { kind: 'dit', folder }
}

/** @param path relative to a folder @returns whether it is not within */
export const leadsOut = (path: string): boolean =>
  path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path)

function checkStages({ start, stages }: JobParameters, { textEncoder }: ModelFootprint): void {
  let knowsText = start.kind === 'base'
  for (const [index, stage] of stages.entries()) {
    const at = (field: string) => `stages.${index}.${field}`
    if (stage.resolution % 16 !== 0)
      throw invalid(at('resolution'), `expected a multiple of 16, got ${stage.resolution}`)
    if (stage.trainTextEncoder && stage.kind === 'vae')
      throw invalid(at('train.text_encoder'), 'expected false in a vae stage, got true')
    if (stage.trainTextEncoder && textEncoder.parameters > largestTrainedEncoder)
      throw invalid(
        at('train.text_encoder'),
        `expected false: a text encoder is trained up to ${largestTrainedEncoder / 1e6} million parameters, and this one has ${Math.round(textEncoder.parameters / 1e6)}`,
      )
    if (stage.textEncoderLearningRate !== undefined && !stage.trainTextEncoder)
      throw invalid(
        at('train.text_encoder_learning_rate'),
        `expected only with train.text_encoder, got ${stage.textEncoderLearningRate}`,
      )
    if (stage.kind === 'vae') continue
    if (stage.condition === 'class' && knowsText)
      throw invalid(
        at('train.condition'),
        'expected "text" or "none" for a transformer that takes text, got "class"',
      )
    if (stage.condition === 'class' && stage.trainTextEncoder)
      throw invalid(at('train.text_encoder'), 'expected false in a stage without text, got true')
    knowsText ||= stage.condition !== 'class'
  }
}

function invalid(parameter: string, message: string): FineTuningError {
  return new FineTuningError('invalid_job', `${parameter}: ${message}`, { parameter })
}

/** Optimiser steps of all stages. */
export const stepsOf = ({ stages }: Pick<JobParameters, 'stages'>): number =>
  stages.reduce((sum, { steps }) => sum + steps, 0)

/** @returns how many steps of the whole job were done when so many of a stage were */
export const overallStep = (
  { stages }: Pick<JobParameters, 'stages'>,
  stage: number,
  stageStep: number,
): number => stepsOf({ stages: stages.slice(0, stage) }) + stageStep

/** The inverse: a stage's last step belongs to it, not to the next. */
export function placeOf(
  { stages }: Pick<JobParameters, 'stages'>,
  step: number,
): { readonly stage: number; readonly stageStep: number } {
  let before = 0
  for (const [stage, { steps }] of stages.entries()) {
    if (step <= before + steps) return { stage, stageStep: step - before }
    before += steps
  }
  throw new RangeError(`step: expected at most ${before}, got ${step}`)
}
