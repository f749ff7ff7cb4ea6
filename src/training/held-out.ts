/** How good the averaged weights are on pictures that no stage trains on: the same pictures, noise and timesteps every time. */
import type { Backbone } from './backbones/backbone.ts'
import type { StageData } from './data/stage-data.ts'
import type { TrainingDevice } from './host.ts'
import type { StageReport } from './job.ts'
import { openEvaluator } from './micro-step.ts'
import { rangesOf, tensorOf, type Passing, type Tensors } from './tensors.ts'

/** @returns the mean over rows; undefined when no pictures are held out */
export async function* heldOutLoss(
  backbone: Backbone,
  data: StageData,
  weights: Tensors,
  host: TrainingDevice,
): AsyncGenerator<void, number | undefined, void> {
  if (data.heldOutPictures === 0) return undefined
  const evaluator = await openEvaluator(backbone, host)
  let [sum, rows] = [0, 0]
  try {
    for await (const batch of data.heldOut()) {
      sum += batch.rows * (await evaluator.evaluate(batch, weights))
      rows += batch.rows
      yield
    }
  } finally {
    await evaluator.close()
  }
  return sum / rows
}

/** Of tensors that were not zero before; nothing changed when all were. */
export function* largestChangePass(before: Tensors, after: Tensors): Passing<StageReport['largestChange']> {
  const sums = new Map([...before.keys()].map((key) => [key, { apart: 0, size: 0 }]))
  for (const { key, tensor: old, from, to } of rangesOf(before)) {
    const now = tensorOf(after, key, old.length)
    const sum = sums.get(key)!
    for (let i = from; i < to; i++) {
      sum.apart += (now[i]! - old[i]!) ** 2
      sum.size += old[i]! ** 2
    }
    yield
  }
  let largest = { parameter: '', relative: 0 }
  for (const [parameter, { apart, size }] of sums) {
    const relative = Math.sqrt(apart / size)
    if (size > 0 && relative > largest.relative) largest = { parameter, relative }
  }
  return largest
}
