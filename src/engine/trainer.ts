/** What of training a device runs. Given from outside, so that a device that only serves does not load it. */
import type { MicroBatchOrder, TrainingHost, TrainingUnit } from '../training/host.ts'
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
  openAssistant(job: TrainingJob, host: Pick<TrainingHost, 'openSession'>): Promise<Assistant>
  exportCheckpoint(order: ExportOrder): AsyncGenerator<TrainingUnit>
}

function notYet(): never {
  throw new Error('there is no trainer yet')
}

export const trainer: Trainer = { train: notYet, openAssistant: notYet, exportCheckpoint: notYet }
