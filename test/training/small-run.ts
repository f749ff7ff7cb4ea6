/** Jobs on the golden checkpoints and a few pictures, run in this process. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TrainingHost, TrainingUnit } from '../../src/training/host.ts'
import type { TrainingEvent, TrainingJob, TrainingOutcome, TrainingStage } from '../../src/training/job.ts'
import { train } from '../../src/training/train.ts'
import { readFixture } from '../safetensors.ts'
import type { Variant } from '../models/golden.ts'
import { temporaryFolder } from '../weights/folder.ts'
import { jobOf, smallSet, stage } from './data/small-set.ts'
import { sessions } from './serving.ts'

export const goldenBase = (variant: Variant): string =>
  fileURLToPath(new URL(`../fixtures/golden/${variant}/checkpoint`, import.meta.url))
export const goldenDit = (variant: Variant): string =>
  fileURLToPath(new URL(`../fixtures/golden/${variant}/dit`, import.meta.url))

/** Micro-batches of a whole batch, whatever they cost. */
export const anyTime = 1e9

/** Twelve pictures of three labels, and a job in two stages of three steps on tiny-512. */
export async function smallJob(overrides: Partial<TrainingJob> = {}): Promise<TrainingJob> {
  const folder = await temporaryFolder()
  const labels = ['circle', 'square', 'star']
  await smallSet(
    folder,
    Array.from({ length: 12 }, (_, i) => ({ label: labels[i % 3]! })),
  )
  const short = { ...stage, resolution: 16, steps: 3, batchSize: 4, gradientClip: 1, learningRate: 1e-3 }
  return jobOf(folder, {
    base: goldenBase('tiny-512'),
    stages: [short, { ...short, kind: 'aesthetic', schedule: 'cosine', steps: 2 }],
    checkpointEvery: 1,
    keepCheckpoints: 2,
    heldOutShare: 0.2,
    maxMicroStepMs: anyTime,
    ...overrides,
  })
}

/** A job in one stage, in micro-batches of one picture. */
export async function oneStage(
  overrides: Partial<TrainingStage>,
  ofJob: Partial<TrainingJob> = {},
): Promise<TrainingJob> {
  const job = await smallJob({ maxMicroStepMs: 0, ...ofJob })
  return { ...job, stages: [{ ...job.stages[0]!, ...overrides }] }
}

export interface Told {
  readonly events: TrainingEvent[]
  readonly units: TrainingUnit['kind'][]
  readonly outcome: TrainingOutcome | undefined
}

export interface RunOptions {
  readonly host?: Partial<TrainingHost>
  /** Leaves the run for good at that yield, from 0. */
  readonly leaveAt?: number
  /** Called at every yield. */
  readonly between?: (unit: TrainingUnit, told: Told) => void
}

/** Runs the job to its end, or as far as it is let. */
export async function run(
  job: TrainingJob,
  { host = {}, leaveAt = Infinity, between }: RunOptions = {},
): Promise<Told> {
  const told = { events: [] as TrainingEvent[], units: [] as TrainingUnit['kind'][] }
  const units = train(job, {
    ...sessions,
    tell: (event) => told.events.push(event),
    pause: new AbortController().signal,
    ...host,
  })
  for (;;) {
    const next = await units.next()
    if (next.done) return { ...told, outcome: next.value }
    told.units.push(next.value.kind)
    between?.(next.value, { ...told, outcome: undefined })
    if (next.value.kind === 'wait') await next.value.until
    if (told.units.length > leaveAt) {
      await units.return({ kind: 'cancelled' })
      return { ...told, outcome: undefined }
    }
  }
}

export const ofType = <Type extends TrainingEvent['type']>(
  events: readonly TrainingEvent[],
  type: Type,
): Extract<TrainingEvent, { readonly type: Type }>[] =>
  events.filter((event): event is Extract<TrainingEvent, { readonly type: Type }> => event.type === type)

export const checkpointsOf = async ({ folder }: TrainingJob): Promise<string[]> =>
  (await readdir(join(folder, 'checkpoints'))).sort()

/** All that a checkpoint holds, as bits. */
export function stateOf({ folder }: TrainingJob, checkpoint: string): ReadonlyMap<string, Uint32Array> {
  const tensors = readFixture(join(folder, 'checkpoints', checkpoint, 'state.safetensors'))
  return new Map([...tensors].map(([key, { data }]) => [key, new Uint32Array(data.buffer)]))
}

type State = ReturnType<typeof stateOf>

/** Keys of tensors that are not the same, bit for bit. */
export const differing = (actual: State, expected: State): string[] =>
  [...new Set([...actual.keys(), ...expected.keys()])].filter((key) => {
    const [one, other] = [actual.get(key), expected.get(key)]
    return one?.length !== other?.length || one?.some((bits, i) => bits !== other![i])
  })
