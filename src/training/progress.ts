/** How fast a run goes, in the time that it had the device. */
import type { TrainingUnit } from './host.ts'
import type { StepReport, TrainingJob } from './job.ts'
import type { Units } from './units.ts'

/** Counts the time in which a run is at work, and not that in which others are. */
export class DeviceClock {
  #countedMs = 0
  #resumedMs: number | undefined

  get ms(): number {
    return this.#countedMs + (this.#resumedMs === undefined ? 0 : performance.now() - this.#resumedMs)
  }

  /** The same units. */
  async *time<Result>(units: Units<Result>): Units<Result> {
    try {
      for (;;) {
        const next: IteratorResult<TrainingUnit, Result> = await this.#count(() => units.next())
        if (next.done) return next.value
        yield next.value
      }
    } finally {
      await units.return(undefined as never)
    }
  }

  async #count<T>(work: () => Promise<T>): Promise<T> {
    const startedMs = (this.#resumedMs = performance.now())
    try {
      return await work()
    } finally {
      this.#countedMs += performance.now() - startedMs
      this.#resumedMs = undefined
    }
  }
}

/** Of a step before this one, in the running mean of what a step takes. */
const memory = 0.9

export class Progress {
  readonly #job: TrainingJob
  readonly #stage: number
  readonly #clock: DeviceClock
  /** What the clock showed when the stage had none of its time. */
  readonly #originMs: number
  #lastMs: number
  #begunMs: number
  #meanMs: number | undefined

  /** @param spentMs of the stage before this run */
  constructor(job: TrainingJob, stage: number, clock: DeviceClock, spentMs: number) {
    this.#job = job
    this.#stage = stage
    this.#clock = clock
    this.#originMs = clock.ms - spentMs
    this.#lastMs = this.#begunMs = clock.ms
  }

  /** Device time of the stage. */
  get deviceMs(): number {
    return this.#clock.ms - this.#originMs
  }

  /** What a step takes counts from here: between steps there may be samples and checkpoints. */
  beginStep(): void {
    this.#begunMs = this.#clock.ms
  }

  /** @param step how many have been taken */
  stepReport(step: number, measured: Pick<StepReport, 'loss' | 'gradientNorm' | 'learningRate'>): StepReport {
    const nowMs = this.#clock.ms
    const deviceMs = nowMs - this.#lastMs
    const stepMs = nowMs - this.#begunMs
    this.#lastMs = nowMs
    this.#meanMs = this.#meanMs === undefined ? stepMs : memory * this.#meanMs + (1 - memory) * stepMs
    const { steps, batchSize } = this.#job.stages[this.#stage]!
    return {
      type: 'step',
      stage: this.#stage,
      step,
      steps,
      ...measured,
      imagesPerSecond: (1000 * batchSize) / stepMs,
      deviceMs,
      etaMs: this.#remainingMs(step, this.#meanMs),
    }
  }

  /** Later stages are taken to cost as this one does, by the pixel. */
  #remainingMs(step: number, meanMs: number): number {
    const pixels = ({ batchSize, resolution }: TrainingJob['stages'][number]): number =>
      batchSize * resolution ** 2
    const now = this.#job.stages[this.#stage]!
    return this.#job.stages
      .slice(this.#stage)
      .reduce(
        (sum, stage, i) =>
          sum + ((stage.steps - (i === 0 ? step : 0)) * meanMs * pixels(stage)) / pixels(now),
        0,
      )
  }
}
