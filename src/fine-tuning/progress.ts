/**
 * What a run tells, collected and written at most twice a second: steps follow each other quickly, and the database sees a
 * handful of transactions, however many there are. What a checkpoint follows is written at once.
 */
import type { Logger } from 'pino'
import type { TrainingPool, ServingPool } from '../engine/pool.ts'
import type { StageReport, StepReport, TrainingEvent } from '../training/job.ts'
import { checkpointFolders, describeCheckpoint } from './checkpoint-folders.ts'
import { divergence } from './divergence.ts'
import type { EnergyMeter } from '../energy/meter.ts'
import { info, type NewEvent } from './events.ts'
import { checkpointIdOf, sampleIdOf, type FineTuningJob, type FinishedStage } from './job.ts'
import { overallStep } from './specification.ts'
import type { FineTuningRuns } from './runs.ts'
import type { NewSample, Told } from './told.ts'
import type { TrainingTotals } from './totals.ts'
import { TrainedTime } from './trained-time.ts'

const betweenWritesMs = 500
/** Between two events that tell of steps; all of them are in the metrics. */
const betweenMetricsMs = 5_000

export interface ProgressOptions {
  readonly job: FineTuningJob
  readonly folder: string
  /** Those that were written down before. */
  readonly checkpoints: readonly string[]
  readonly runs: FineTuningRuns
  readonly pool: Pick<TrainingPool & ServingPool, 'devices'>
  readonly meter: EnergyMeter
  readonly log: Logger
  /** The row is not this attempt's any more. */
  readonly onLost: () => void
  readonly totals: Pick<TrainingTotals, 'add'>
}

export class RunProgress {
  readonly #options: ProgressOptions
  #steps: StepReport[] = []
  #samples: NewSample[] = []
  #checkpoints: string[] = []
  #reports: StageReport[] = []
  #events: NewEvent[] = []
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()
  #toldMetricsAtMs = -Infinity
  readonly #trained: TrainedTime
  /** Of the job. */
  readonly #used: { deviceMs: number; joules: number }
  /** A run that goes on begins with telling what it goes on from, which was told before and is no progress. */
  readonly #known: { readonly checkpoints: Set<string>; readonly reports: Set<number> }

  constructor(options: ProgressOptions) {
    const { job, checkpoints, pool } = options
    this.#options = options
    this.#trained = new TrainedTime(pool)
    this.#used = { deviceMs: job.usage.deviceMs, joules: job.usage.joules }
    this.#known = {
      checkpoints: new Set(checkpoints),
      reports: new Set(job.reports.map(({ stage }) => stage)),
    }
  }

  started(device: string): void {
    this.#add(info(`Training on ${device}`, { type: 'started', device }))
  }

  note(event: TrainingEvent): void {
    const { job } = this.#options
    const at = (stage: number, step: number) => overallStep(job.parameters, stage, step)
    switch (event.type) {
      case 'note':
        return this.#add(info(event.message, { type: 'note' }))
      case 'preparing': {
        const { stage, done, of } = event
        if (done > 0 && done < of) return
        return this.#add(
          info(done < of ? `Encoding ${of} pictures and texts` : `${of} pictures and texts are encoded`, {
            type: 'preparing',
            stage,
            done,
            of,
          }),
        )
      }
      case 'stage_started': {
        const { stage, kind, microBatch: micro_batch } = event
        const message = `Stage ${stage + 1} (${kind}) started, ${micro_batch} pictures a micro-step`
        return this.#add(info(message, { type: 'stage_started', stage, kind, micro_batch }))
      }
      case 'step':
        return this.#step(event, at(event.stage, event.step))
      case 'sample': {
        const { type: _, ...sample } = event
        const step = at(event.stage, event.step)
        this.#samples.push({ ...sample, step })
        const sample_id = sampleIdOf(job.id, { step, index: event.index })
        return this.#add(
          info(`Sample ${event.index + 1} after step ${step}`, {
            type: 'sample',
            step,
            index: event.index,
            sample_id,
          }),
        )
      }
      case 'checkpoint': {
        if (this.#known.checkpoints.has(event.folder)) return
        this.#known.checkpoints.add(event.folder)
        this.#checkpoints.push(event.folder)
        this.#add(checkpointSaved(job.id, at(event.stage, event.step)))
        return this.#writeNow()
      }
      case 'stage_finished': {
        if (this.#known.reports.has(event.stage)) return
        this.#known.reports.add(event.stage)
        this.#reports.push(event)
        const { stage, heldOut } = event
        const learned = heldOut
          ? `: held-out loss ${heldOut.lossBefore.toPrecision(4)} → ${heldOut.lossAfter.toPrecision(4)}`
          : ''
        this.#add(info(`Stage ${stage + 1} finished${learned}`, { type: 'stage_finished', stage }))
        const message = divergence(event)
        if (message !== undefined) this.#add({ level: 'warn', message, details: { type: 'note' } })
        return
      }
    }
  }

  /** Before the end is written: what was told and is not written yet, to be written with it. */
  async end(): Promise<Told> {
    clearTimeout(this.#timer)
    await this.#writing
    return this.#take()
  }

  #step(report: StepReport, step: number): void {
    this.#steps.push(report)
    const isLast = report.step === report.steps
    if (isLast || performance.now() - this.#toldMetricsAtMs >= betweenMetricsMs) {
      this.#toldMetricsAtMs = performance.now()
      const { stage, loss, gradientNorm, learningRate, imagesPerSecond } = report
      const { steps } = this.#options.job.progress
      this.#events.push(
        info(`Step ${step}/${steps}: loss ${loss.toPrecision(4)}`, {
          type: 'metrics',
          stage,
          step,
          steps,
          loss,
          gradient_norm: gradientNorm,
          learning_rate: learningRate,
          images_per_second: imagesPerSecond,
        }),
      )
    }
    this.#writeSoon()
  }

  #add(event: NewEvent): void {
    this.#events.push(event)
    this.#writeSoon()
  }

  #writeSoon(): void {
    this.#timer ??= setTimeout(() => this.#writeNow(), betweenWritesMs)
  }

  #writeNow(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(() => this.#write())
  }

  async #write(): Promise<void> {
    const { job, runs, log, onLost } = this.#options
    try {
      if ((await runs.write(job, await this.#take())) === 'lost') onLost()
    } catch (error) {
      log.error({ err: error, job: job.id }, 'cannot write the progress of a job; it is left out')
    }
  }

  async #take(): Promise<Told> {
    const { job, folder, meter, totals } = this.#options
    const [steps, samples, events] = [this.#steps, this.#samples, this.#events]
    const [saved, finished] = [this.#checkpoints, this.#reports]
    this.#steps = []
    this.#samples = []
    this.#events = []
    this.#checkpoints = []
    this.#reports = []
    const deviceMs = this.#trained.take()
    const energy = deviceMs > 0 ? await meter.take(deviceMs) : undefined
    this.#used.deviceMs += deviceMs
    this.#used.joules += energy?.joules ?? 0
    const kept = saved.length > 0 ? await checkpointFolders(folder) : undefined
    const described = saved.map((each) => describeCheckpoint(folder, each, job.parameters).catch(ifGone))
    const source = energy?.source ?? job.usage.energySource ?? 'configured'
    const joulesPerMs = this.#used.deviceMs > 0 ? this.#used.joules / this.#used.deviceMs : 0
    const reports = finished.map((finishedStage): FinishedStage => {
      const { type: _, ...report } = finishedStage
      return { ...report, joules: report.deviceMs * joulesPerMs, energySource: source }
    })
    totals.add(job, steps)
    const checkpoints = (await Promise.all(described)).filter((each) => each !== undefined)
    return { steps, samples, checkpoints, kept, reports, events, deviceMs, energy }
  }
}

export const checkpointSaved = (jobId: string, step: number): NewEvent =>
  info(`Checkpoint saved after step ${step}`, {
    type: 'checkpoint',
    step,
    checkpoint_id: checkpointIdOf(jobId, { step }),
  })

/** It may have made room for a later one already. */
function ifGone(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}
