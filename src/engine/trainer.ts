/** What of training a device runs. Given from outside, so that a device that only serves does not load it. */
import type { MicroBatchOrder, TrainingDevice, TrainingHost, TrainingUnit } from '../training/host.ts'
import type { TrainingJob, TrainingOutcome } from '../training/job.ts'
import type { ExportOrder } from './training-protocol.ts'

/** Computes micro-batches of a job that is at home on another device. */
export interface Assistant {
  /** @param file where the gradients go */
  compute(order: MicroBatchOrder, file: string): Promise<void>
  close(): Promise<void>
}

export interface Trainer {
  train(job: TrainingJob, host: TrainingHost): AsyncGenerator<TrainingUnit, TrainingOutcome>
  openAssistant(job: TrainingJob, host: TrainingDevice): Promise<Assistant>
  exportCheckpoint(order: ExportOrder): AsyncGenerator<TrainingUnit>
}

/** What it imports is loaded when it is first used. */
export const trainer: Trainer = {
  async *train(job, host) {
    const { train } = await import('../training/train.ts')
    return yield* train(job, host)
  },
  async openAssistant(job, host) {
    const { openAssistant } = await import('../training/assistant.ts')
    return openAssistant(job, host)
  },
  async *exportCheckpoint(order) {
    const { exportCheckpoint } = await import('../training/export.ts')
    yield* exportCheckpoint(order)
  },
}
