/** A job as it is being written down: what was typed, and the request that it makes. What is left empty has the service's default. */
import type { SchemaCreateFineTuningJobRequest, SchemaStageKind } from '../../../sdk/index.ts'

export type JobRequest = Omit<SchemaCreateFineTuningJobRequest, 'dry_run'>
export type StageRequest = JobRequest['stages'][number]

/** Those that are numbers, as typed. */
export const stageNumbers = [
  'resolution',
  'steps',
  'batch_size',
  'learning_rate',
  'warmup_steps',
  'weight_decay',
  'gradient_clip',
  'ema_decay',
  'caption_dropout',
] as const
export type StageNumber = (typeof stageNumbers)[number]

export interface StageDraft {
  readonly key: number
  readonly kind: SchemaStageKind
  readonly numbers: Readonly<Partial<Record<StageNumber, string>>>
  readonly minScore: string
  readonly schedule: '' | 'constant' | 'cosine'
  readonly aspects: '' | 'square' | 'all'
  readonly recompute: '' | 'none' | 'blocks'
  readonly precision: '' | 'float32' | 'float16'
}

export interface PromptDraft {
  readonly key: number
  readonly prompt: string
  readonly seed: string
}

export interface JobDraft {
  readonly model: string
  readonly dataset: string
  readonly method: 'lora' | 'full'
  readonly rank: string
  readonly stages: readonly StageDraft[]
  readonly prompts: readonly PromptDraft[]
  readonly samplesEvery: string
  readonly checkpointEvery: string
  readonly suffix: string
  readonly seed: string
  readonly skipBadData: 'fail' | 'skip'
}

let lastKey = 0
export const nextKey = (): number => ++lastKey

export const stageDraft = (kind: SchemaStageKind): StageDraft => ({
  key: nextKey(),
  kind,
  numbers: {},
  minScore: '',
  schedule: '',
  aspects: '',
  recompute: '',
  precision: '',
})

export const promptDraft = (prompt: string, seed: number): PromptDraft => ({
  key: nextKey(),
  prompt,
  seed: String(seed),
})

export const emptyDraft = (dataset: string | undefined): JobDraft => ({
  model: '',
  dataset: dataset ?? '',
  method: 'lora',
  rank: '',
  stages: [stageDraft('align')],
  prompts: [],
  samplesEvery: '',
  checkpointEvery: '',
  suffix: '',
  seed: '',
  skipBadData: 'fail',
})

/** Fields for numbers take nothing else; what is still being typed counts as left out. */
const numberOf = (text: string): number | undefined => {
  const trimmed = text.trim().replace(',', '.')
  return trimmed === '' || !Number.isFinite(Number(trimmed)) ? undefined : Number(trimmed)
}

const filled = <K extends string, V>(key: K, value: V | undefined | ''): Partial<Record<K, V>> =>
  value === undefined || value === '' ? {} : ({ [key]: value } as Record<K, V>)

function stageRequest(stage: StageDraft): StageRequest {
  const { kind, numbers, minScore, schedule, aspects, recompute, precision } = stage
  const train = { ...filled('recompute', recompute), ...filled('precision', precision) }
  const score = numberOf(minScore)
  return {
    kind,
    ...Object.assign({}, ...stageNumbers.map((name) => filled(name, numberOf(numbers[name] ?? '')))),
    ...filled('schedule', schedule),
    ...(aspects !== '' && { multi_aspect: aspects === 'all' }),
    ...(score !== undefined && { filter: { min_aesthetic_score: score } }),
    ...(Object.keys(train).length > 0 && { train }),
  }
}

export function requestOf(draft: JobDraft): JobRequest {
  const prompts = draft.prompts.filter(({ prompt }) => prompt.trim() !== '')
  return {
    model: draft.model,
    dataset: draft.dataset,
    method:
      draft.method === 'full' ? { type: 'full' } : { type: 'lora', ...filled('rank', numberOf(draft.rank)) },
    stages: draft.stages.map(stageRequest),
    ...(prompts.length > 0 && {
      samples: {
        prompts: prompts.map(({ prompt, seed }) => ({ prompt, ...filled('seed', numberOf(seed)) })),
        ...filled('every', numberOf(draft.samplesEvery)),
      },
    }),
    ...filled('checkpoint_every', numberOf(draft.checkpointEvery)),
    ...filled('suffix', draft.suffix.trim()),
    ...filled('seed', numberOf(draft.seed)),
    on_bad_data: draft.skipBadData,
  }
}
