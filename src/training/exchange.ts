/** Files through which a job's devices help each other: weights one way, a micro-batch's loss and gradients the other. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openSafetensors, readFloats, type TensorLocation } from '../weights/safetensors.ts'
import { temporarySuffix, writeSafetensors, type TensorSource } from '../weights/safetensors-writer.ts'
import type { TrainedTensor } from './checkpoint.ts'
import { TrainingError } from './errors.ts'
import { tensorOf, type Tensors } from './tensors.ts'

type Trained = ReadonlyMap<string, TrainedTensor>

/** Is there while other devices could help, and nothing of it outlasts a run. */
export const exchangeFolder = (jobFolder: string): string => join(jobFolder, 'exchange')

const [scaleName, lossName] = ['loss_scale', 'loss'] as const

/** @returns the file, of a name that says which step's they are */
export async function writeWeights(
  jobFolder: string,
  step: string,
  trained: Trained,
  { weights, lossScale }: { readonly weights: Tensors; readonly lossScale: number },
): Promise<string> {
  const folder = exchangeFolder(jobFolder)
  await mkdir(folder, { recursive: true })
  const file = join(folder, `weights-${step}.safetensors`)
  await writeSafetensors(file, [...sourcesOf(trained, weights), [scaleName, number(lossScale)]])
  return file
}

/** Reads what `writeWeights` wrote into `weights`. @returns the scale of the loss */
export const readWeights = (file: string, trained: Trained, weights: Tensors): Promise<number> =>
  readInto(file, trained, weights, scaleName)

export async function writeGradients(
  file: string,
  trained: Trained,
  { gradients, loss }: { readonly gradients: Tensors; readonly loss: number },
): Promise<void> {
  await writeSafetensors(file, [...sourcesOf(trained, gradients), [lossName, number(loss)]])
}

/** Reads what `writeGradients` wrote into `gradients`. @returns the loss */
export const readGradients = (file: string, trained: Trained, gradients: Tensors): Promise<number> =>
  readInto(file, trained, gradients, lossName)

/** Of a step that is over: weights, and gradients that nobody took in. What is being written is left to whoever writes it. */
export async function clearExchange(jobFolder: string): Promise<void> {
  const folder = exchangeFolder(jobFolder)
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  for (const name of names) if (!name.endsWith(temporarySuffix)) await rm(join(folder, name), { force: true })
}

const sourcesOf = (trained: Trained, tensors: Tensors): [string, TensorSource][] =>
  Array.from(trained, ([key, { shape }]) => [
    `tensor.${key}`,
    { dtype: 'F32', shape, data: tensors.get(key)! },
  ])

const number = (value: number): TensorSource => ({ dtype: 'F32', shape: [], data: Float32Array.of(value) })

async function readInto(file: string, trained: Trained, into: Tensors, scalar: string): Promise<number> {
  const { tensors } = await openSafetensors(file)
  const located = (name: string): TensorLocation => {
    const location = tensors.get(name)
    if (location) return location
    throw new TrainingError(`${file}: expected ${name}, got no such tensor`)
  }
  for (const key of trained.keys()) {
    const values = await readFloats(located(`tensor.${key}`))
    tensorOf(into, key, values.length).set(values)
  }
  return (await readFloats(located(scalar)))[0]!
}
