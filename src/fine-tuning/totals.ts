/** What jobs of this process have done since it started, and how far those are that run, for its metrics. */
import type { StepReport } from '../training/job.ts'
import type { FineTuningJob } from './job.ts'
import { overallStep } from './specification.ts'

/** A job that runs in this process. */
export interface RunningJob {
  readonly id: string
  /** Optimiser steps through all stages. */
  readonly step: number
  readonly steps: number
  /** Of the last step; undefined before the first. */
  readonly loss: number | undefined
  /** Of device time, in the last step. */
  readonly imagesPerSecond: number
}

export class TrainingTotals {
  #steps = 0
  #images = 0
  readonly #running = new Map<string, RunningJob>()

  begin({ id, progress: { step, steps } }: FineTuningJob): void {
    this.#running.set(id, { id, step, steps, loss: undefined, imagesPerSecond: 0 })
  }

  add({ id, parameters, progress }: FineTuningJob, reports: readonly StepReport[]): void {
    const last = reports.at(-1)
    if (!last) return
    for (const { stage } of reports) this.#images += parameters.stages[stage]?.batchSize ?? 0
    this.#steps += reports.length
    if (!this.#running.has(id)) return
    const { loss, imagesPerSecond } = last
    const step = overallStep(parameters, last.stage, last.step)
    this.#running.set(id, { id, step, steps: progress.steps, loss, imagesPerSecond })
  }

  end(id: string): void {
    this.#running.delete(id)
  }

  now(): { readonly steps: number; readonly images: number; readonly running: readonly RunningJob[] } {
    return { steps: this.#steps, images: this.#images, running: [...this.#running.values()] }
  }
}
