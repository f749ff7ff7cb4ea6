/** One request's life, as its callers see it: accepted, waited for, looked at, cancelled, fetched. */
import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { Caller } from '../access/caller.ts'
import type { Whose } from '../access/project.ts'
import type { ModelInfo, Priority, ServingPool, ServingView } from '../engine/pool.ts'
import type { PowerMeter } from '../energy/power.ts'
import { noPolicy, type ContentPolicy } from '../policy/service.ts'
import type { BlobLink, ByteRange } from '../storage/blobs.ts'
import { StorageError } from '../storage/errors.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import { throughOutages } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'
import { Announcements } from '../storage/announcements.ts'
import { takeTurn } from '../storage/upkeep.ts'
import type { Webhook } from '../webhooks/deliveries.ts'
import { GenerationError } from './errors.ts'
import { watchActivity, type ActivityOfDevices } from './device-activity.ts'
import { EventLog, eventChannel } from './event-log.ts'
import { streamEvents } from './event-stream.ts'
import {
  previewRequest,
  previewSteps,
  type GenerationEvent,
  type PreviewEvent,
  type PreviewWish,
} from './events.ts'
import {
  isSettled,
  type Generation,
  type GenerationStatus,
  type ImageRecord,
  type Outlook,
  type SettledGeneration,
} from './generation.ts'
import { IdempotentCalls, type IdempotentCall } from './idempotency.ts'
import { GenerationLeases } from './leases.ts'
import type { GenerationParameters } from './parameters.ts'
import { GenerationReader, type GenerationPage, type ListOptions } from './reader.ts'
import { eraseCreatedBefore, eraseExpired } from './retention.ts'
import { GenerationRecovery, type Recovery } from './recovery.ts'
import { settledChannel } from './settling.ts'
import { GenerationStore } from './store.ts'
import type { Tracing } from '../tracing/tracing.ts'
import { discardBlobs, sweepBlobs, type SweepOptions } from './sweep.ts'
import { Totals, type TotalsSinceStart } from './totals.ts'
import { admit, defaultWindow, rowTokensOf, type Window } from './turns.ts'
import { startWorker, type Settled } from './worker.ts'

export type { IdempotentCall } from './idempotency.ts'
export type { GenerationPage, ListOptions } from './reader.ts'

export interface CreateOptions {
  readonly requestId: string
  readonly user?: string | undefined
  /** Of whoever asks (W3C Trace Context). */
  readonly traceparent?: string | undefined
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
  readonly webhook?: Webhook | undefined
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
  readonly totals: TotalsSinceStart
  readonly devices: ServingPool['devices']
  readonly policy: ContentPolicy['totals']
  /** Histograms of phases. */
  readonly phaseTimes: Registry
}

/** What can be looked at by its address alone. */
export interface Pictures {
  image(id: string): Promise<ImageRecord | undefined>
  /** What a preview event told, as long as the event is kept. */
  preview(id: string, eventId: number): Promise<PreviewEvent | undefined>
}

/** One project's generations, as whoever asks for it may see and change them; all others are not there. */
export interface Generations extends Pictures {
  /**
   * Writes row and job in one transaction: what it returned is not lost.
   * @throws {GenerationError} `idempotency_conflict`, `queue_full`, `in_flight_limit`, `images_limit`, `unknown_model`, `invalid_text`;
   *   {@link PolicyError}
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
  /** Removes all final generations that were created before a time, with their pictures. @returns how many */
  deleteCreatedBefore(before: Date): Promise<number>
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
  once<T>(
    call: Omit<IdempotentCall, 'project'>,
    work: () => Promise<T>,
  ): Promise<{ answer: T; replayed: boolean }>
}

export interface GenerationService {
  readonly models: readonly ModelInfo[]
  /** Some device can take work; where others take it, it can be accepted at any time. */
  readonly ready: boolean
  /** How many processes take work, where this one does not. @throws when the database cannot be reached */
  countWorkers(): Promise<number | undefined>
  /** What this caller may see and do. */
  of(caller: Caller): Generations
  pictures(whose: Whose): Pictures
  metrics(): Promise<GenerationMetrics>
  /** What each device did in the last seconds, up to fifteen minutes. */
  activity(seconds: number): ActivityOfDevices
  /** `range` is inclusive at both ends. @throws {GenerationError} `blob_missing`, `blobs_unavailable` */
  openBlob(key: string, range?: ByteRange): Promise<Readable>
  /** An address at which clients get the blob from the storage itself; undefined where they cannot. */
  linkToBlob(key: string, link: BlobLink): Promise<string | undefined>
  count(): Promise<{ queued: number; running: number }>
  /** Resolves when the start-up sweep is through, with the number of blobs it removed. */
  readonly swept: Promise<number>
  /**
   * Takes nothing more, and hands back at once what no device has begun with. Resolves when the rest is finished, and after
   * `withinMs` at the latest.
   */
  drain(withinMs: number): Promise<void>
  /** Stops the worker, which hands back what is unfinished. Leaves storage and pool open. */
  close(): Promise<void>
}

export interface GenerationServiceOptions {
  readonly storage: Storage
  /** Where it only tells of devices, other processes take from the queue. */
  readonly pool: ServingPool | ServingView
  readonly log: Logger
  /** Nothing is said of energy without it. */
  readonly power?: PowerMeter | undefined
  readonly tracing?: Tracing | undefined
  /** Nothing is judged without it. */
  readonly policy?: ContentPolicy
  /** Expected wait beyond which new generations are refused with `queue_full`. */
  readonly maxWaitMs: number
  /** How much work this process holds at most, so that the engine sees its choices. */
  readonly window?: Partial<Window>
  /** After what time since its end a generation is erased; never, without it. */
  readonly retentionMs?: number
  readonly sweep?: Partial<Pick<SweepOptions, 'safetyAgeMs'>> & { readonly everyMs?: number }
}

const upkeepEveryMs = 5 * 60 * 1000
const sweepEveryMs = 60 * 60 * 1000
const sweepSafetyAgeMs = 60 * 60 * 1000

/** Takes up what an earlier process left, starts the worker and the sweep, and returns the service. */
export async function startGenerationService(options: GenerationServiceOptions): Promise<GenerationService> {
  const { storage, pool, log, policy = noPolicy, power, tracing, maxWaitMs, retentionMs = Infinity } = options
  const { everyMs: sweepMs = sweepEveryMs, safetyAgeMs = sweepSafetyAgeMs } = options.sweep ?? {}
  const window = { ...defaultWindow, ...options.window }
  const store = new GenerationStore(storage)
  const recovery = new GenerationRecovery(storage)
  const reader = new GenerationReader(storage)
  const eventLog = new EventLog(storage)
  const calls = new IdempotentCalls(storage)
  const totals = new Totals()
  const { database, presence } = storage
  const takeUp = async (recover: () => Promise<Recovery>) => {
    await calls.forgetUnfinished()
    const { waiting, failed } = await recover()
    if (waiting > 0) log.info({ waiting }, 'taking up generations that another process left')
    if (failed.length > 0)
      log.error({ failed }, 'gave up generations under which the server died again and again')
  }
  await takeUp(() => (database.isShared ? recovery.takeBack() : recovery.recover()))
  const takingBack = oneAtATime(
    () => takeUp(() => recovery.takeBack()),
    (error) => log.warn({ err: error }, 'cannot look for what others left; will try again'),
  )
  const stopTakingBack = presence.onOthersGone(takingBack.begin)

  const [settlements, news] = [new Announcements(), new Announcements()]
  const stopListening = await Promise.all([
    database.listen(
      settledChannel,
      (id) => settlements.announce(id),
      () => settlements.announceAll(),
    ),
    database.listen(
      eventChannel,
      (id) => news.announce(id),
      () => news.announceAll(),
    ),
  ])
  /** While none is ready, as at the start, they are all about to be. */
  const devices = () =>
    Math.max(1, pool.devices.filter(({ state }) => state === 'ready').length || pool.devices.length)
  const onSettled = (settled: Settled) => totals.add(settled)
  const worker =
    'generate' in pool
      ? await startWorker({
          storage,
          leases: new GenerationLeases(storage),
          recovery,
          pool,
          log,
          policy,
          power,
          tracing,
          window,
          devices,
          onSettled,
        })
      : undefined
  /** @returns how many blobs nobody needed any more */
  const upkeep = async (): Promise<number> => {
    try {
      await eventLog.prune()
      await calls.dropExpired()
      await eraseExpired(storage, { retentionMs, log })
      const isDue = await takeTurn(storage.database, 'sweep of pictures', sweepMs)
      return isDue ? await sweepBlobs(storage, { log, safetyAgeMs }) : 0
    } catch (error) {
      log.error({ err: error }, 'cannot erase what is old; will try again')
      return 0
    }
  }
  const swept = upkeep()
  let kept: Promise<number> = swept
  const upkeepTimer = setInterval(() => {
    kept = kept.then(upkeep)
  }, upkeepEveryMs)
  upkeepTimer.unref()
  const watch = watchActivity(pool)

  async function outlookOf(generation: Generation): Promise<Outlook> {
    const { id, parameters } = generation
    switch (generation.state) {
      case 'queued': {
        const place = await reader.place(id)
        if (!place) return {} // it began between the two looks
        const ownMs = place.ownMs / Math.min(devices(), parameters.count)
        return {
          queuePosition: place.position,
          etaSeconds: (place.aheadMs / devices() + ownMs) / 1000,
        }
      }
      case 'running': {
        const status = worker?.statusOf(id)
        const steps = parameters.steps * parameters.count
        if (!status) return { progress: { step: await reader.stepsTold(id), steps } }
        return { progress: { step: status.step, steps }, etaSeconds: status.etaMs / 1000 }
      }
      case 'succeeded':
      case 'failed':
      case 'cancelled':
        return {}
    }
  }

  const pictures = (whose: Whose): Pictures => ({
    image: (id) => reader.image(whose, id),
    preview: (id, eventId) => eventLog.preview(whose, id, eventId),
  })

  function of(caller: Caller): Generations {
    const { project } = caller
    return {
      ...pictures(project),
      async create(
        parameters,
        { requestId, user, traceparent, priority = 'normal', deadline, previews, webhook, ...idempotent },
      ) {
        const { idempotencyKey: key, idempotencyBody: body = parameters } = idempotent
        const { idempotencyOperation: operation = 'generateImages' } = idempotent
        const model = findModel(parameters.model, pool.models)
        checkText({
          prompt: parameters.prompt,
          negative_prompt: parameters.negativePrompt,
          user,
          'Idempotency-Key': key,
        })
        const { prompt, negativePrompt } = parameters
        await policy.checkTexts({ prompt, negative_prompt: negativePrompt })
        const steps = previewSteps(previews, parameters.steps)
        const work = { ...parameters, previews: previewRequest(steps) }
        const expectedMs = pool.expectedMs(work) * parameters.count
        const request = {
          caller,
          parameters,
          requestId,
          user,
          traceparent,
          priority,
          deadline,
          expectedMs,
          previewSteps: steps,
          webhook,
          rowTokens: rowTokensOf(parameters, model),
          idempotency: key === undefined ? undefined : { project, key, operation, body },
        }
        return store.create(request, (workMs) => {
          try {
            admit({ workMs, devices: devices(), priority, maxWaitMs })
          } catch (error) {
            totals.refused += 1
            throw error
          }
        })
      },
      async settled(id, { signal } = {}) {
        const announcements = settlements.subscribe(id)
        try {
          for (;;) {
            const announced = announcements.next(signal)
            const now = await throughOutages(
              async () => ((await reader.isFinal(project, id)) ? reader.get(project, id) : undefined),
              signal,
            )
            if (now && isSettled(now)) return now
            await announced
          }
        } finally {
          announcements.stop()
        }
      },
      async get(id) {
        const generation = await reader.get(project, id)
        return generation && { ...generation, ...(await outlookOf(generation)) }
      },
      list: (options = {}) => reader.list(project, options),
      async cancel(id) {
        if (await store.cancel(project, id)) totals.cancelled += 1
        return reader.get(project, id)
      },
      async delete(id) {
        const blobKeys = await store.delete(project, id)
        if (blobKeys) await discardBlobs(blobKeys, storage.blobs, log)
        return blobKeys !== undefined
      },
      deleteCreatedBefore: (before) => eraseCreatedBefore(storage, { project, before, log }),
      events: (id, options = {}) =>
        streamEvents(id, options, { project, reader, eventLog, announcements: news }),
      once: (call, work) => calls.once({ ...call, project }, work),
    }
  }

  return {
    get models() {
      return pool.models
    },
    get ready() {
      return worker === undefined || pool.ready
    },
    of,
    pictures,
    countWorkers: async () => (worker ? undefined : presence.countWorkers()),
    async openBlob(key, range) {
      try {
        return await storage.blobs.open(key, range)
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        const { code, message } = error
        if (code !== 'blob_missing' && code !== 'blobs_unavailable') throw error
        log.error({ err: error, blobKey: key }, 'cannot read a picture')
        throw new GenerationError(code, message, { cause: error })
      }
    },
    linkToBlob: (key, link) => storage.blobs.link(key, link),
    count: () => reader.count(),
    async metrics() {
      const { queued, running, workMs, oldestQueuedMs } = await reader.backlog()
      return {
        queued,
        running,
        oldestQueuedSeconds: oldestQueuedMs / 1000,
        expectedWorkSeconds: workMs / 1000,
        expectedWaitSeconds: workMs / 1000 / devices(),
        totals: totals.now(),
        devices: pool.devices,
        policy: policy.totals,
        phaseTimes: totals.phaseTimes.registry,
      }
    },
    activity: (seconds) => watch.tell(seconds),
    swept,
    drain: async (withinMs) => worker?.drain(withinMs),
    async close() {
      clearInterval(upkeepTimer)
      watch.close()
      stopTakingBack()
      await worker?.close()
      await kept
      await takingBack.idle()
      await Promise.all(stopListening.map((stop) => stop()))
    },
  }
}

/** @throws {GenerationError} `unknown_model` */
function findModel(name: string, models: readonly ModelInfo[]): ModelInfo {
  const found = models.find((model) => model.name === name)
  if (found) return found
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
