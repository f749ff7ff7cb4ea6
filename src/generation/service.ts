/** One request's life, as its callers see it: accepted, waited for, looked at, cancelled, fetched. */
import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import type { ModelInfo, Pool, Priority } from '../engine/pool.ts'
import type { ByteRange } from '../storage/blobs.ts'
import type { Storage } from '../storage/storage.ts'
import { GenerationError } from './errors.ts'
import type { GenerationEvent, PreviewWish } from './events.ts'
import {
  isSettled,
  type Generation,
  type GenerationStatus,
  type ImageRecord,
  type SettledGeneration,
} from './generation.ts'
import type { GenerationParameters } from './parameters.ts'
import { Settlements } from './settlements.ts'
import { GenerationStore, settledChannel } from './store.ts'
import { sweepBlobs } from './sweep.ts'
import { startWorker } from './worker.ts'

export interface CreateOptions {
  readonly requestId: string
  readonly user?: string | undefined
  readonly idempotencyKey?: string | undefined
  /**
   * What the client sent under that key, before defaults: this is compared, since defaults such as a drawn seed differ
   * from call to call. Without it the parameters are compared.
   */
  readonly idempotencyBody?: unknown
  /** Which operation the key was sent for; one key cannot serve two. */
  readonly idempotencyOperation?: string | undefined
  /** `normal` unless told. */
  readonly priority?: Priority | undefined
  readonly deadline?: Date | undefined
  readonly previews?: PreviewWish | undefined
}

export interface ListOptions {
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined
  /** 1 … 100 */
  readonly limit?: number | undefined
  readonly state?: Generation['state'] | undefined
  readonly model?: string | undefined
  /** Inclusive. */
  readonly createdAfter?: Date | undefined
  /** Exclusive. */
  readonly createdBefore?: Date | undefined
}

export interface GenerationPage {
  /** Newest first. */
  readonly data: readonly Generation[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}

/** A POST that makes no generation, under its Idempotency-Key. */
export interface IdempotentCall {
  readonly key: string
  readonly operation: string
  readonly body: unknown
}

export interface GenerationMetrics {
  readonly queued: number
  readonly running: number
  /** How long the one that waits longest has waited; 0 when none waits. */
  readonly oldestQueuedSeconds: number
  /** Device time of all that waits and runs. */
  readonly expectedWorkSeconds: number
  /** That, over the devices: what a new request would wait. */
  readonly expectedWaitSeconds: number
  /** Counted since this process started. */
  readonly totals: {
    readonly succeeded: number
    readonly failed: number
    readonly cancelled: number
    readonly refused: number
    readonly images: number
    readonly deviceSeconds: number
    readonly rowSteps: number
  }
  readonly devices: Pool['devices']
}

export interface GenerationService {
  readonly models: readonly ModelInfo[]
  /** Some device can take work. */
  readonly ready: boolean
  /**
   * Writes row and job in one transaction: what it returned is not lost.
   * @throws {GenerationError} `idempotency_conflict`, `queue_full`, `unknown_model`, `invalid_text`
   */
  create(
    parameters: GenerationParameters,
    options: CreateOptions,
  ): Promise<{ generation: Generation; replayed: boolean }>
  /** The generation once it is final. Rejects with the signal's reason, which leaves the generation alone. */
  settled(id: string, options?: { signal?: AbortSignal | undefined }): Promise<SettledGeneration>
  get(id: string): Promise<GenerationStatus | undefined>
  /** @throws {GenerationError} `invalid_cursor` */
  list(options?: ListOptions): Promise<GenerationPage>
  /** Ends a generation that is not final; a running one stops at its next step. */
  cancel(id: string): Promise<Generation | undefined>
  /**
   * Removes a final generation with its pictures.
   * @returns whether there was one
   * @throws {GenerationError} `not_settled`
   */
  delete(id: string): Promise<boolean>
  /**
   * Every event after `afterEventId`, once and in order, those to come too; ends after the final one. An hour after the
   * end the events are gone, and only the final one is told.
   * @throws {GenerationError} `not_found`; the signal's reason when that is aborted
   */
  events(
    id: string,
    options?: { afterEventId?: number | undefined; signal?: AbortSignal | undefined },
  ): AsyncIterable<GenerationEvent>
  /**
   * Runs `work` once for a key: a later call with the same operation and body gets the first one's answer for 24 hours, a
   * concurrent one waits for it. What failed may be tried again. `T` must be JSON.
   * @throws {GenerationError} `idempotency_conflict`
   */
  once<T>(call: IdempotentCall, work: () => Promise<T>): Promise<{ answer: T; replayed: boolean }>
  metrics(): Promise<GenerationMetrics>
  image(id: string): Promise<ImageRecord | undefined>
  /** `range` is inclusive at both ends. @throws {StorageError} `blob_missing` */
  openBlob(key: string, range?: ByteRange): Promise<Readable>
  count(): Promise<{ queued: number; running: number }>
  /** Resolves when the start-up sweep is through, with the number of files it removed. */
  readonly swept: Promise<number>
  /** Stops the worker, which hands back what is unfinished. Leaves storage and pool open. */
  close(): Promise<void>
}

export interface GenerationServiceOptions {
  readonly storage: Storage
  readonly pool: Pool
  readonly log: Logger
  /** Expected wait beyond which new generations are refused with `queue_full`. */
  readonly maxWaitMs: number
  /** How much work this process holds at most, so that the engine sees its choices. */
  readonly window?: Partial<Window>
}

/**
 * Takes up what an earlier process left, starts the worker and the sweep, and returns the service.
 * The caller's storage must be open in this process alone.
 */
export async function startGenerationService(options: GenerationServiceOptions): Promise<GenerationService> {
  const { storage, pool, log, maxQueued, window = 8 } = options
  const store = new GenerationStore(storage)
  // Before anything new is written, so that every file found now is known to a row or to nobody.
  const found = await Array.fromAsync(storage.blobs.list())
  const waiting = await store.recover()
  if (waiting > 0) log.info({ waiting }, 'taking up generations that an earlier process left')
  const settlements = new Settlements()
  const stopListening = await storage.database.listen(settledChannel, (id) => settlements.announce(id))
  const worker = await startWorker({ storage, store, pool, log, window })
  const swept = sweepBlobs(found, store, storage.blobs, log)

  return {
    get models() {
      return pool.models
    },
    get ready() {
      return pool.ready
    },
    async create(parameters, { requestId, user, idempotencyKey: key, idempotencyBody: body = parameters }) {
      checkModel(parameters.model, pool.models)
      checkText({
        prompt: parameters.prompt,
        negative_prompt: parameters.negativePrompt,
        user,
        'Idempotency-Key': key,
      })
      const idempotency = key === undefined ? undefined : { key, body }
      return store.create({ parameters, requestId, user, idempotency }, (queued) => {
        if (queued < maxQueued) return
        const retryAfterSeconds = settlements.secondsUntilNext()
        throw new GenerationError(
          'queue_full',
          `${queued} generations are waiting, and at most ${maxQueued} may`,
          { retryAfterSeconds },
        )
      })
    },
    async settled(id, { signal } = {}) {
      const announced = settlements.wait(id, signal)
      try {
        // Listening first and looking second leaves no moment at which an announcement could be missed.
        const now = await expectGeneration(store, id)
        if (isSettled(now)) return now
        await announced.promise
      } finally {
        announced.stop()
      }
      const after = await expectGeneration(store, id)
      if (!isSettled(after)) throw new Error(`generation ${id} was announced as final and is ${after.state}`)
      return after
    },
    get: (id) => store.get(id),
    cancel: (id) => store.cancel(id),
    image: (id) => store.image(id),
    openBlob: (key, range) => storage.blobs.open(key, range),
    count: () => store.count(),
    swept,
    async close() {
      await worker.close()
      await swept
      await stopListening()
    },
  }
}

async function expectGeneration(store: GenerationStore, id: string): Promise<Generation> {
  const generation = await store.get(id)
  if (!generation) throw new Error(`there is no generation ${id}`)
  return generation
}

function checkModel(name: string, models: readonly ModelInfo[]): void {
  if (models.some((model) => model.name === name)) return
  const known = models.map((model) => model.name).join(', ')
  throw new GenerationError('unknown_model', `there is no model ${JSON.stringify(name)}; there is ${known}`, {
    parameter: 'model',
  })
}

/** PostgreSQL's text holds every Unicode string but for U+0000, and half a surrogate pair is no Unicode. */
function checkText(texts: Readonly<Record<string, string | undefined>>): void {
  for (const [parameter, text] of Object.entries(texts)) {
    if (text === undefined || (text.isWellFormed() && !text.includes('\0'))) continue
    throw new GenerationError(
      'invalid_text',
      `${parameter} must be Unicode text without U+0000 and without unpaired surrogates`,
      { parameter },
    )
  }
}
