/** A device in this process, with the real loop and trainer: traces are played to it while a job runs, or none. */
import { CostBook, type Profile } from '../../src/engine/cost-book.ts'
import { Jobs } from '../../src/engine/jobs.ts'
import { Loop } from '../../src/engine/loop.ts'
import type { Model } from '../../src/engine/model.ts'
import { Pipeline } from '../../src/engine/pipeline.ts'
import type { ImageRequest } from '../../src/engine/pool.ts'
import type { ChildMessage, DeviceLoad } from '../../src/engine/protocol.ts'
import { Residency } from '../../src/engine/residency.ts'
import { trainer } from '../../src/engine/trainer.ts'
import type { TrainingEvent, TrainingJob } from '../../src/training/job.ts'
import { arrive } from './engines.ts'

/** Enough for any trace: the memory of texts is not what is compared. */
const cacheLimits = { promptBytes: 2 ** 30, contextBytes: 2 ** 30 }

export interface Segment {
  readonly latenciesMs: readonly number[]
  /** From the first arrival to the last picture. */
  readonly elapsedMs: number
  /** Device time that requests and the job took of it. */
  readonly servingMs: number
  readonly trainingMs: number
  /** Units of work of the job, and its optimiser's steps. */
  readonly units: number
  readonly steps: number
}

export class BenchDevice {
  readonly #loop: Loop
  readonly #jobs: Jobs
  readonly #onDone = new Map<string, () => void>()
  #onTraining: (message: Extract<ChildMessage, { type: 'training' }>) => void = () => undefined
  readonly #failed = Promise.withResolvers<never>()

  /** @param threads 0 takes one per core */
  static async start(model: Model, profile: Profile, threads: number): Promise<BenchDevice> {
    const pipeline = new Pipeline(model, cacheLimits)
    const residency = new Residency([pipeline], Infinity)
    await residency.load(pipeline)
    return new BenchDevice(residency, new Map([[pipeline.key, new CostBook(profile)]]), threads)
  }

  private constructor(residency: Residency, books: Map<string, CostBook>, threads: number) {
    const limits = { maxRowTokens: Infinity, maxPrompts: Infinity, maxDecodePixels: Infinity }
    const tell = (message: ChildMessage): void => this.#hear(message)
    this.#loop = new Loop({ device: 'cpu', residency, books, limits, tell })
    const { background } = this.#loop
    this.#jobs = new Jobs({
      background,
      trainer,
      provider: { provider: 'cpu', threads, lowering: 'serve' },
      tell,
    })
    this.#loop.run().catch(this.#failed.reject)
  }

  /** Resolves when the job has taken its first step: from then on it does nothing but train. */
  async beginJob(job: TrainingJob): Promise<void> {
    await this.#trainingUntil(
      (event) => event?.type === 'step',
      () => this.#jobs.train(job, 0),
    )
  }

  async endJob(job: TrainingJob): Promise<void> {
    await this.#trainingUntil(
      (event) => event === undefined,
      () => this.#jobs.cancel(job.id),
    )
  }

  /** Open loop: when a request comes does not depend on what became of the others. */
  async play(requests: readonly ImageRequest[], arrivalsMs: readonly number[]): Promise<Segment> {
    const done = requests.map(({ id }) => {
      const { promise, resolve } = Promise.withResolvers<number>()
      this.#onDone.set(id, () => resolve(performance.now()))
      return promise
    })
    const [before, startMs] = [this.#loop.load, performance.now()]
    const arriving = arrive(requests, arrivalsMs, startMs, (request) => this.#loop.submit(request))
    const [doneMs] = await Promise.race([Promise.all([Promise.all(done), arriving]), this.#failed.promise])
    const after = this.#loop.load
    const grown = (of: (load: DeviceLoad) => number): number => of(after) - of(before)
    return {
      latenciesMs: doneMs.map((ms, index) => ms - startMs - arrivalsMs[index]!),
      elapsedMs: Math.max(...doneMs) - startMs,
      servingMs: grown(({ servingMs }) => servingMs),
      trainingMs: grown(({ training }) => training.deviceMs),
      units: grown(({ training }) => training.units),
      steps: grown(({ training }) => training.steps),
    }
  }

  /** @param isReached told of each event, and with undefined when the job has ended */
  async #trainingUntil(
    isReached: (event: TrainingEvent | undefined) => boolean,
    action: () => void,
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#onTraining = ({ news }) => {
      if (news.kind === 'failed') reject(new Error(news.message))
      if (news.kind === 'event' && isReached(news.event)) resolve()
      if (news.kind === 'ended' && isReached(undefined)) resolve()
    }
    action()
    await promise
  }

  #hear(message: ChildMessage): void {
    if (message.type === 'training') this.#onTraining(message)
    if (message.type === 'succeeded') this.#onDone.get(message.id)?.()
    if (message.type === 'failed') this.#failed.reject(new Error(`${message.id}: ${message.message}`))
  }
}
