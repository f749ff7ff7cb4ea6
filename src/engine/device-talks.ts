/** The parent's side of what a device does besides pictures: jobs and errands, each a talk with its process that has an end. */
import type { TrainingEvent, TrainingJob, TrainingOutcome } from '../training/job.ts'
import { EngineError } from './protocol.ts'
import type {
  Errand,
  TrainingChildMessage,
  TrainingNews,
  TrainingParentMessage,
} from './training-protocol.ts'

/** Of the talks: what a device's process says that concerns other devices as well. */
export type OrderMessage = Extract<TrainingChildMessage, { type: 'offer' | 'kept' | 'awaited' | 'assisted' }>

export interface JobHandlers {
  /** Devices that could help. */
  readonly others: number
  readonly onBegun: () => void
  readonly onEvent: (event: TrainingEvent) => void
  readonly pause?: AbortSignal | undefined
  readonly cancel?: AbortSignal | undefined
}

interface JobTalk {
  readonly hear: (news: TrainingNews) => void
  readonly reject: (error: unknown) => void
  isBegun: boolean
}

interface ErrandTalk {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  readonly kind: Errand['kind']
}

export class DeviceTalks {
  readonly #send: (message: TrainingParentMessage) => void
  readonly #onOrder: (message: OrderMessage) => void
  readonly #jobs = new Map<string, JobTalk>()
  readonly #errands = new Map<string, ErrandTalk>()
  #errandsBegun = 0

  constructor(send: (message: TrainingParentMessage) => void, onOrder: (message: OrderMessage) => void) {
    this.#send = send
    this.#onOrder = onOrder
  }

  /** Jobs that are at home there, waiting or at work. */
  get jobs(): number {
    return this.#jobs.size
  }

  /** That have not ended. */
  get errands(): number {
    return this.#errands.size
  }

  /** @throws what `end` was given, when the process dies; {@link EngineError} training_failed with what the trainer said */
  async train(
    job: TrainingJob,
    { others, onBegun, onEvent, pause, cancel }: JobHandlers,
  ): Promise<TrainingOutcome> {
    const { promise, resolve, reject } = Promise.withResolvers<TrainingOutcome>()
    const hear = (news: TrainingNews): void => {
      switch (news.kind) {
        case 'begun':
          return onBegun()
        case 'event':
          return onEvent(news.event)
        case 'ended':
          return resolve(news.outcome)
        case 'failed':
          return reject(new EngineError('training_failed', news.message))
      }
    }
    const stop = (): void => this.#send({ type: 'cancel-training', job: job.id })
    const save = (): void => this.#send({ type: 'pause-training', job: job.id })
    this.#jobs.set(job.id, { hear, reject, isBegun: false })
    this.#send({ type: 'train', job, others })
    pause?.addEventListener('abort', save, { once: true })
    cancel?.addEventListener('abort', stop, { once: true })
    if (pause?.aborted) save()
    if (cancel?.aborted) stop()
    try {
      return await promise
    } finally {
      this.#jobs.delete(job.id)
      pause?.removeEventListener('abort', save)
      cancel?.removeEventListener('abort', stop)
    }
  }

  /** @throws what `end` was given, when the process dies; {@link EngineError} deploy_failed or export_failed with what it said */
  async errand(errand: Errand): Promise<void> {
    const id = `errand-${(this.#errandsBegun += 1)}`
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#errands.set(id, { resolve, reject, kind: errand.kind })
    this.#send({ type: 'errand', id, errand })
    try {
      await promise
    } finally {
      this.#errands.delete(id)
    }
  }

  hear(message: TrainingChildMessage): void {
    switch (message.type) {
      case 'training': {
        const talk = this.#jobs.get(message.job)
        if (message.news.kind === 'begun' && talk) talk.isBegun = true
        return talk?.hear(message.news)
      }
      case 'errand-ended': {
        const talk = this.#errands.get(message.id)
        if (message.error === undefined) return talk?.resolve()
        const code = talk?.kind === 'export' ? 'export_failed' : 'deploy_failed'
        return talk?.reject(new EngineError(code, message.error))
      }
      case 'offer':
      case 'kept':
      case 'awaited':
      case 'assisted':
        return this.#onOrder(message)
    }
  }

  /** The process is gone. @param reasonFor made for each talk; `begun`: work on it was, and may be the cause */
  end(reasonFor: (state: 'begun' | 'waiting') => Error): void {
    for (const { reject, isBegun } of this.#jobs.values()) reject(reasonFor(isBegun ? 'begun' : 'waiting'))
    for (const { reject } of this.#errands.values()) reject(reasonFor('begun'))
  }
}
