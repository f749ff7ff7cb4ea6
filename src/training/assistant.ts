/**
 * The other device's side of a job: computes the gradients of micro-batches that the job's own device offers. It keeps sessions
 * and nothing else, so that it may come and go.
 */
import { checkpointName, readCheckpointState, type TrainedComponents } from './checkpoint.ts'
import { TrainingError } from './errors.ts'
import { readWeights, writeGradients } from './exchange.ts'
import type { MicroBatchOrder, TrainingDevice } from './host.ts'
import type { TrainingJob } from './job.ts'
import { openMicroStepper, type MicroStepper } from './micro-step.ts'
import { readMicroBatch } from './plan.ts'
import { openStageInputs, type StageInputs } from './stage-inputs.ts'
import type { StageData } from './data/stage-data.ts'
import type { Tensors } from './tensors.ts'

export interface Assistant {
  /**
   * Writes loss and gradients, whole or not at all.
   * @throws what reading the order's weights or computing it throws; the other orders can be computed all the same
   */
  compute(order: MicroBatchOrder, outFile: string): Promise<void>
  close(): Promise<void>
}

interface OpenStage {
  readonly index: number
  readonly inputs: StageInputs
  readonly data: StageData
  readonly stepper: MicroStepper
  readonly weights: Tensors
  readonly gradients: Tensors
  /** Whose weights are there: micro-batches of one step come with the same. */
  held: { readonly file: string; readonly lossScale: number } | undefined
}

/** Opens a stage's sessions when its first order comes. */
export function openAssistant(job: TrainingJob, host: TrainingDevice): Assistant {
  let open: OpenStage | undefined
  const close = async (): Promise<void> => {
    const closing = open
    open = undefined
    await closing?.stepper.close()
    await closing?.inputs.encoders.close()
  }
  return {
    close,
    async compute({ stage, step, microBatch, weights }, outFile) {
      if (open?.index !== stage) {
        await close()
        open = await openStage(job, stage, host)
      }
      const { inputs, data, stepper, gradients } = open
      const { trained } = inputs.backbone
      if (open.held?.file !== weights) {
        open.held = undefined
        open.held = { file: weights, lossScale: await readWeights(weights, trained, open.weights) }
      }
      const batch = await data.microBatch(step, microBatch)
      const options = { weights: open.weights, gradients, lossScale: open.held.lossScale }
      const { loss } = await toEnd(stepper.run(batch, options))
      await writeGradients(outFile, trained, { gradients, loss })
    },
  }
}

async function openStage(job: TrainingJob, index: number, host: TrainingDevice): Promise<OpenStage> {
  const rows = await readMicroBatch(job.folder, index)
  if (rows === undefined)
    throw new TrainingError(`stage ${index + 1}: expected a plan of its micro-batches, got none`)
  const inputs = await openStageInputs(job, index, await trainedBefore(job, index), host)
  const empty = (): Tensors =>
    new Map(
      [...inputs.backbone.trained].map(([key, { shape }]) => [
        key,
        new Float32Array(shape.reduce((a, b) => a * b, 1)),
      ]),
    )
  return {
    index,
    inputs,
    data: inputs.data.withRows(rows),
    stepper: await openMicroStepper(inputs.backbone, host),
    weights: empty(),
    gradients: empty(),
    held: undefined,
  }
}

/** What the stages before that one have left. */
async function trainedBefore({ folder, stages }: TrainingJob, index: number): Promise<TrainedComponents> {
  const before = stages[index - 1]
  if (before === undefined) return {}
  return (await readCheckpointState(folder, checkpointName(index - 1, before.steps))).components
}

async function toEnd<Result>(parts: AsyncGenerator<void, Result, void>): Promise<Result> {
  for (;;) {
    const { done, value } = await parts.next()
    if (done) return value
  }
}
