/**
 * A job's checkpoints: `checkpoints/SS-NNNNNN/` in its folder, after step N of stage S, each whole or not there at all. Of what
 * earlier stages trained a checkpoint names the one at that stage's end, which is kept.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ConfigFields } from '../models/config-reader.ts'
import { systemReason } from '../weights/files.ts'
import { temporarySuffix, writeSafetensors, type TensorSource } from '../weights/safetensors-writer.ts'
import { openSafetensors, readFloats, type TensorLocation } from '../weights/safetensors.ts'
import type { AdamWState } from './adamw.ts'
import { flushFolder, writeDurably } from './durable-json.ts'
import { TrainingError } from './errors.ts'
import type { LossScaleState } from './loss-scale.ts'
import type { StageReport } from './job.ts'
import type { Tensors } from './tensors.ts'

export const componentNames = ['transformer', 'text_encoder', 'vae'] as const
export type ComponentName = (typeof componentNames)[number]

/** A component that is no longer the base's. */
export interface TrainedComponent {
  /** All of its weights, or an adapter's A and B beside weights that are still the base's. */
  readonly kind: 'full' | 'lora'
  /** What its config.json shall hold. */
  readonly config: ConfigFields
  /** Name of the checkpoint that holds its weights. */
  readonly checkpoint: string
}

export type TrainedComponents = Readonly<Partial<Record<ComponentName, TrainedComponent>>>

/** state.json */
export interface CheckpointState {
  readonly version: 1
  readonly stage: number
  /** Optimiser steps of the stage so far. */
  readonly step: number
  /** Updates of the optimiser and the average: fewer where float16 overflowed. */
  readonly updates: number
  readonly lossScale?: LossScaleState | undefined
  readonly lossBefore?: number | undefined
  readonly deviceMs: number
  /** Of the stage, when this is its end. */
  readonly report?: StageReport | undefined
  /** What earlier stages have trained, and what has been trained now that this checkpoint is there. */
  readonly inherited: TrainedComponents
  readonly components: TrainedComponents
}

/** The trained tensors of a stage; all of the same keys. */
export interface TrainingState {
  readonly weights: Tensors
  readonly average: Tensors
  readonly optimiser: AdamWState
}

/** Where a trained tensor belongs: its component, its key there, and its shape. */
export interface TrainedTensor {
  readonly component: ComponentName
  readonly shape: readonly number[]
}

const parts = ['weights', 'average', 'first', 'second'] as const
type Part = (typeof parts)[number]

const stateFile = 'state.json'
const tensorsFile = 'state.safetensors'

/** Of a tensor in state.safetensors. */
const placeOf = (part: Part, component: ComponentName, key: string): string => `${part}.${component}.${key}`

export const checkpointsFolder = (jobFolder: string): string => join(jobFolder, 'checkpoints')
export const checkpointName = (stage: number, step: number): string =>
  `${String(stage).padStart(2, '0')}-${String(step).padStart(6, '0')}`

/** Names of the complete ones, in the order in which they were made. */
export async function listCheckpoints(jobFolder: string): Promise<readonly string[]> {
  const names = await readdir(checkpointsFolder(jobFolder)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const numbers = (name: string): readonly number[] => name.split('-').map(Number)
  return names
    .filter((name) => /^\d{2,}-\d{6,}$/.test(name))
    .sort((a, b) => {
      const [[stage = 0, step = 0], [otherStage = 0, otherStep = 0]] = [numbers(a), numbers(b)]
      return stage - otherStage || step - otherStep
    })
}

/** @throws {TrainingError} when it is not there or not what this version writes */
export async function readCheckpointState(jobFolder: string, name: string): Promise<CheckpointState> {
  const file = join(checkpointsFolder(jobFolder), name, stateFile)
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new TrainingError(`${file}: expected a checkpoint, got ${systemReason(cause)}`, { cause })
  })
  const state = JSON.parse(text) as CheckpointState
  if (state.version === 1) return state
  throw new TrainingError(`${file}: expected version 1, got ${JSON.stringify(state.version)}`)
}

/**
 * Where the averaged weights of what was trained lie, by the component's keys: those to be served.
 * @param holder name of the checkpoint that holds them
 */
export async function averagedTensors(
  jobFolder: string,
  holder: string,
  component: ComponentName,
): Promise<ReadonlyMap<string, TensorLocation>> {
  const { tensors } = await openSafetensors(join(checkpointsFolder(jobFolder), holder, tensorsFile))
  const prefix = placeOf('average', component, '')
  return new Map(
    [...tensors].flatMap(([name, location]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), location]] : [],
    ),
  )
}

/**
 * Writes a checkpoint: under another name, flushed, then renamed.
 * @returns its name
 */
export async function writeCheckpoint(
  jobFolder: string,
  state: CheckpointState,
  trained: ReadonlyMap<string, TrainedTensor>,
  { weights, average, optimiser }: TrainingState,
): Promise<string> {
  const name = checkpointName(state.stage, state.step)
  const folder = join(checkpointsFolder(jobFolder), name)
  const temporary = `${folder}.${randomBytes(8).toString('hex')}${temporarySuffix}`
  await mkdir(temporary, { recursive: true })
  try {
    const all: Readonly<Record<Part, Tensors>> = {
      weights,
      average,
      first: optimiser.first,
      second: optimiser.second,
    }
    const sources = parts.flatMap((part) =>
      Array.from(trained, ([key, { component, shape }]): [string, TensorSource] => [
        placeOf(part, component, key),
        { dtype: 'F32', shape, data: all[part].get(key)! },
      ]),
    )
    await writeSafetensors(join(temporary, tensorsFile), sources)
    await writeDurably(join(temporary, stateFile), state)
    await rename(temporary, folder)
    await flushFolder(checkpointsFolder(jobFolder))
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw error
  }
  return name
}

/** @throws {TrainingError} when a tensor is missing or has another size */
export async function readTrainingState(
  jobFolder: string,
  { stage, step, updates }: CheckpointState,
  trained: ReadonlyMap<string, TrainedTensor>,
): Promise<TrainingState> {
  const file = join(checkpointsFolder(jobFolder), checkpointName(stage, step), tensorsFile)
  const { tensors } = await openSafetensors(file)
  const read = async (part: Part): Promise<Tensors> => {
    const found = new Map<string, Float32Array>()
    for (const [key, { component, shape }] of trained) {
      const place = placeOf(part, component, key)
      const location = tensors.get(place)
      if (location?.shape.join() !== shape.join()) {
        const got = location ? `(${location.shape.join(', ')})` : 'no such tensor'
        throw new TrainingError(`${file}: ${place}: expected (${shape.join(', ')}), got ${got}`)
      }
      found.set(key, await readFloats(location))
    }
    return found
  }
  return {
    weights: await read('weights'),
    average: await read('average'),
    optimiser: { steps: updates, first: await read('first'), second: await read('second') },
  }
}

/** Removes all but the ends of stages and the last `keep` of the others, and what was left half written. */
export async function pruneCheckpoints(
  jobFolder: string,
  stageEnds: ReadonlySet<string>,
  keep: number,
): Promise<void> {
  const between = (await listCheckpoints(jobFolder)).filter((name) => !stageEnds.has(name))
  const names = await readdir(checkpointsFolder(jobFolder))
  const surplus = [
    ...between.slice(0, Math.max(between.length - keep, 0)),
    ...names.filter((name) => name.endsWith(temporarySuffix)),
  ]
  for (const name of surplus)
    await rm(join(checkpointsFolder(jobFolder), name), { recursive: true, force: true })
}
