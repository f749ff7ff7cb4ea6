/**
 * Takes generations from the queue, has their pictures made, and writes the outcome.
 *
 * Woken by notifications. It claims a window of generations rather than one, so that the engine sees its choices, and tops it
 * up as work is finished. It never loses one: what is unfinished when it stops goes back to the queue; what it held when it died
 * is taken back by others; and an outcome waits until the database is there to hear of it.
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { ImageResult, Picture, ServingPool } from '../engine/pool.ts'
import { EngineError } from '../engine/protocol.ts'
import type { EnergyUse } from '../energy/footprint.ts'
import type { PowerMeter, Work } from '../energy/power.ts'
import { PolicyError } from '../policy/errors.ts'
import type { ContentPolicy } from '../policy/service.ts'
import type { BlobKind } from '../storage/blobs.ts'
import { isOutage, throughOutages } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'
import type { GenerationTrace, PictureTrace, Tracing } from '../tracing/tracing.ts'
import { previewRequest } from './events.ts'
import { EventLog } from './event-log.ts'
import { Enlarger } from './enlarger.ts'
import type { Failure } from './generation.ts'
import { encodeImage, encodePreview, fileExtension, parametersOfPicture } from './images.ts'
import type { GenerationParameters } from './parameters.ts'
import { ProgressLog } from './progress.ts'
import type { ClaimedGeneration, GenerationLeases, NewImage, Outcome } from './leases.ts'
import type { GenerationRecovery } from './recovery.ts'
import { settledChannel } from './settling.ts'
import { blobOwner } from './sweep.ts'
import type { Window } from './turns.ts'

export interface WorkerOptions {
  readonly storage: Storage
  readonly leases: GenerationLeases
  readonly recovery: GenerationRecovery
  readonly pool: ServingPool
  readonly log: Logger
  readonly policy: ContentPolicy
  readonly power?: PowerMeter | undefined
  readonly tracing?: Tracing | undefined
  readonly window: Window
  /** How many devices share the work. */
  readonly devices: () => number
  /** Hears of every generation that this process brought to its end. */
  readonly onSettled: (settled: Settled) => void
}

export type Settled =
  | {
      readonly state: 'succeeded'
      readonly images: readonly NewImage[]
      readonly queuedMs: number
      readonly totalMs: number
    }
  | { readonly state: 'failed' }

export interface Worker {
  /** Steps over all pictures and the expected time to the end; undefined for what no device here has begun with. */
  statusOf(id: string): { step: number; steps: number; etaMs: number } | undefined
  /** Takes nothing more, hands back what no device has begun with, and waits for the rest for `withinMs` at most. */
  drain(withinMs: number): Promise<void>
  /** Takes nothing more and hands back what is unfinished; cancels nothing. */
  close(): Promise<void>
}

/** Notifications wake the worker; this finds what none told of, such as after a failed claim, and what one claimed whose end was not told. */
const lookAgainMs = { alone: 15_000, shared: 2_000 }
/** How long a worker that stops waits for a database that is away. What it cannot tell then is taken back by others. */
const stopWithinMs = 10_000

/** Aborts the engine's work on a generation; which one decides what happens to the row. */
class Cancelled extends Error {}
class Lost extends Error {}
class Stopping extends Error {}
class SiblingFailed extends Error {}

interface InHand {
  readonly generation: ClaimedGeneration
  readonly abort: AbortController
  readonly done: Promise<void>
}

export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { storage, leases, recovery, pool, log, policy, power, tracing, window, devices, onSettled } = options
  const inHand = new Map<string, InHand>()
  const lose = (id: string) => inHand.get(id)?.abort.abort(new Lost())
  const progress = new ProgressLog({ leases, blobs: storage.blobs, log, policy, onLost: lose })
  const enlarger = new Enlarger()
  const stop = new AbortController()
  /** Aborted when a stopping worker waits for the database no longer. */
  const giveUp = new AbortController()
  let claiming: Promise<void> | undefined
  let claimAgain = false
  let lookForForgotten = false
  let isDraining = false

  const takesMore = () => !isDraining && !stop.signal.aborted

  function wake(): void {
    claimAgain = true
    claiming ??= claimAll()
      .catch((error: unknown) =>
        log.error({ err: error }, 'cannot take generations from the queue; will try again'),
      )
      .finally(() => {
        claiming = undefined
        if (claimAgain && takesMore()) wake()
      })
  }

  async function claimAll(): Promise<void> {
    while (claimAgain && takesMore()) {
      claimAgain = false
      if (lookForForgotten) await takeBackForgotten()
      const held = [...inHand.values()].map(({ generation }) => generation)
      if (held.some(({ isSuspect }) => isSuspect)) return
      const claimed = await leases.claim(
        {
          expectedMs: held.reduce((sum, { expectedMs }) => sum + expectedMs, 0),
          count: held.reduce((sum, { parameters }) => sum + parameters.count, 0),
        },
        { ...window, workMs: window.workMs * devices() },
      )
      for (const generation of claimed) take(generation)
    }
  }

  /** No claim is under way meanwhile, so what is not in hand is in nobody's. */
  async function takeBackForgotten(): Promise<void> {
    lookForForgotten = false
    const { waiting, failed } = await recovery.takeBackForgotten([...inHand.keys()])
    if (waiting + failed.length > 0)
      log.warn({ waiting, failed }, 'gave back generations that were claimed and not in hand')
  }

  function take(generation: ClaimedGeneration): void {
    const { id } = generation
    const abort = new AbortController()
    // An attempt that lost its row may not be through with leaving the devices.
    const earlier = inHand.get(id)?.done
    const begin = async () => {
      await earlier
      progress.add(generation)
      await carryOut(generation, abort)
      progress.forget(id)
    }
    const done = begin().finally(() => {
      if (inHand.get(id) === entry) inHand.delete(id)
      wake()
    })
    const entry = { generation, abort, done }
    inHand.set(id, entry)
  }

  async function carryOut(generation: ClaimedGeneration, abort: AbortController): Promise<void> {
    try {
      await finish(generation, abort)
    } catch (error) {
      // Its files stay: whether the failed transaction was committed is not known here, and a sweep knows.
      log.error({ err: error, generation: generation.id }, 'cannot write the outcome of a generation')
      // One that could not be handed back is taken back all the same.
      if (stop.signal.aborted || isOutage(error)) return
      const unwritten = { startedAt: undefined, events: [] }
      await leases.fail(generation, cannotStore, unwritten).catch((error: unknown) => {
        log.error({ err: error, generation: generation.id }, 'cannot write that either; it waits again')
      })
    }
  }

  async function finish(generation: ClaimedGeneration, abort: AbortController): Promise<void> {
    if (stop.signal.aborted) abort.abort(new Stopping())
    const trace = tracing?.generation(generation)
    const pictures = await makePictures(generation, abort, trace)
    const unwritten = await progress.end(generation.id)
    trace?.end(pictures.state)
    const write = (outcome: () => Promise<Outcome>) => throughOutages(outcome, giveUp.signal)
    switch (pictures.state) {
      case 'made': {
        const { images } = pictures
        const startedAt = unwritten.startedAt ?? new Date()
        const succeed = () => leases.succeed(generation, images, { ...unwritten, startedAt })
        if ((await write(succeed)) === 'written') {
          const [createdMs, startedMs] = [generation.createdAt.getTime(), startedAt.getTime()]
          const queuedMs = startedMs - createdMs
          return onSettled({ state: 'succeeded', images, queuedMs, totalMs: Date.now() - createdMs })
        }
        break
      }
      case 'lost':
        break
      case 'stopped': {
        const handBack = () => leases.handBack(generation, unwritten)
        if ((await write(handBack)) === 'written') return drop(pictures.images)
        break
      }
      case 'failed': {
        const { cause, failure } = pictures
        const level = failure.code === 'content_policy_violation' ? 'info' : 'error'
        log[level]({ err: cause, generation: generation.id, code: failure.code }, 'a generation failed')
        if ((await write(() => leases.fail(generation, failure, unwritten))) === 'written') {
          onSettled({ state: 'failed' })
          if (failure.code === 'content_policy_violation')
            await new EventLog(storage).dropPreviews(generation.id)
          return drop(pictures.images)
        }
        break
      }
    }
    // The row is not this attempt's any more: nobody will know of what it made.
    await Promise.all([drop(pictures.images), progress.drop(unwritten.events)])
  }

  type Pictures =
    | { readonly state: 'made'; readonly images: readonly [NewImage, ...NewImage[]] }
    | { readonly state: 'lost' | 'stopped'; readonly images: readonly NewImage[] }
    | {
        readonly state: 'failed'
        readonly images: readonly NewImage[]
        readonly failure: Failure
        readonly cause: unknown
      }

  async function makePictures(
    generation: ClaimedGeneration,
    abort: AbortController,
    trace: GenerationTrace | undefined,
  ): Promise<Pictures> {
    const makings = Array.from({ length: generation.parameters.count }, async (_, index) => {
      const spans = trace?.picture(index)
      try {
        const made = await makePicture(generation, index, abort.signal, spans)
        spans?.end()
        return made
      } catch (error) {
        spans?.end(error)
        // The first failure is the reason that counts; the others stop because of it.
        if (!abort.signal.aborted) abort.abort(new SiblingFailed(undefined, { cause: error }))
        throw error
      }
    })
    const results = await Promise.allSettled(makings)
    const [first, ...rest] = results.flatMap((result) =>
      result.status === 'fulfilled' ? [result.value] : [],
    )
    if (first && rest.length === results.length - 1) return { state: 'made', images: [first, ...rest] }
    const images = first ? [first, ...rest] : []
    const reason: unknown = abort.signal.reason
    if (reason instanceof Cancelled || reason instanceof Lost) return { state: 'lost', images }
    // A pool that closes under a stopping worker may reject in its own words.
    if (reason instanceof Stopping || stop.signal.aborted) return { state: 'stopped', images }
    const cause = reason instanceof SiblingFailed ? reason.cause : reason
    return { state: 'failed', images, failure: describeFailure(cause), cause }
  }

  async function makePicture(
    { id, attempt, parameters, priority, deadline, previewSteps }: ClaimedGeneration,
    index: number,
    signal: AbortSignal,
    spans: PictureTrace | undefined,
  ): Promise<NewImage> {
    const own = parametersOfPicture(parameters, index)
    const { count: _, format, compression: __, ...request } = own
    let work: Work | undefined
    const result = await pool.generate(
      {
        ...request,
        id: `${id}/${index}`,
        priority,
        deadlineMs: deadline?.getTime(),
        previews: previewRequest(previewSteps),
      },
      {
        signal,
        onProgress(told) {
          if (told.phase === 'started') work = power?.begin()
          spans?.note(told)
          progress.note(id, index, told)
        },
      },
    )
    spans?.made(result)
    const { device, deviceMs } = result.receipt
    const energy = await work?.end(device, deviceMs)
    await judge(result, own, signal)
    const { modelVersion } = result
    const bytes = await encodeImage(result, own, { modelVersion, enlarger })
    const blobKey = await putBlob(bytes, {
      extension: fileExtension(format),
      owner: blobOwner({ id, attempt }),
    })
    const { width, height, seed, seedIndex } = own
    return describeImage(result, energy, { index, width, height, seed, seedIndex, format, blobKey, bytes })
  }

  /** @throws {PolicyError} */
  async function judge(
    picture: Picture,
    parameters: GenerationParameters,
    signal: AbortSignal,
  ): Promise<void> {
    if (!policy.judgesPictures) return
    const { bytes } = await encodePreview(picture, parameters)
    await policy.checkPicture(bytes, 'image/webp', signal)
  }

  async function putBlob(bytes: Uint8Array, kind: BlobKind): Promise<string> {
    try {
      return await storage.blobs.put(bytes, kind)
    } catch (error) {
      throw new CannotStore(undefined, { cause: error })
    }
  }

  /** Pictures that no row will know. One that stays is removed by a sweep. */
  async function drop(images: readonly NewImage[]): Promise<void> {
    for (const { blobKey } of images) {
      await storage.blobs
        .delete(blobKey)
        .catch((error: unknown) => log.warn({ err: error, blobKey }, 'cannot delete an unused picture'))
    }
  }

  /** Nobody may have told that one was cancelled, or taken back. */
  async function lookAfterHeld(): Promise<void> {
    const attempts = [...inHand.values()].map(({ generation }) => generation)
    const held = await leases.stillHeld(attempts)
    for (const { id, attempt } of attempts) {
      const now = inHand.get(id)
      if (now?.generation.attempt === attempt && !held.has(id)) lose(id)
    }
  }

  function lookAtAll(): void {
    wake()
    lookAfterHeld().catch((error: unknown) => log.warn({ err: error }, 'cannot look after what is in hand'))
  }

  const { database, generationQueue, presence } = storage
  const stopListening = await Promise.all([
    generationQueue.onJob(wake),
    database.listen(settledChannel, (id) => inHand.get(id)?.abort.abort(new Cancelled()), lookAtAll),
  ])
  const stopLosing = presence.onGone(() => {
    log.error({ held: inHand.size }, 'not heard of for too long: what was in hand is given to others')
    for (const id of inHand.keys()) lose(id)
  })
  const lookAgain = setInterval(
    () => {
      lookForForgotten = true
      wake()
    },
    database.isShared ? lookAgainMs.shared : lookAgainMs.alone,
  )
  lookAgain.unref()
  wake()

  return {
    statusOf: (id) => progress.statusOf(id),
    async drain(withinMs) {
      isDraining = true
      await claiming
      for (const [id, { abort }] of inHand) if (!progress.statusOf(id)) abort.abort(new Stopping())
      const over = new AbortController()
      const finished = Promise.all([...inHand.values()].map(({ done }) => done))
      await Promise.race([finished, sleep(withinMs, undefined, { signal: over.signal })]).finally(() =>
        over.abort(),
      )
    },
    async close() {
      stop.abort()
      const giveUpTimer = setTimeout(() => giveUp.abort(), stopWithinMs)
      clearInterval(lookAgain)
      await Promise.all(stopListening.map((stopOne) => stopOne()))
      for (const { abort } of inHand.values()) abort.abort(new Stopping())
      await claiming
      await Promise.all([...inHand.values()].map(({ done }) => done))
      clearTimeout(giveUpTimer)
      stopLosing()
      progress.close()
      await enlarger.close()
    },
  }
}

class CannotStore extends Error {}

const cannotStore: Failure = {
  code: 'storage_failed',
  message: 'The picture was made and could not be stored.',
}

function describeFailure(cause: unknown): Failure {
  if (cause instanceof CannotStore) return cannotStore
  if (cause instanceof PolicyError) return { code: cause.code, message: cause.message }
  if (cause instanceof EngineError) {
    const { code, message } = cause
    if (code === 'unknown_model' || code === 'device_failed' || code === 'generation_failed')
      return { code, message }
  }
  return { code: 'generation_failed', message: 'The picture could not be made.' }
}

function describeImage(
  { width, height, promptTruncated, modelVersion, timings, receipt }: ImageResult,
  energy: EnergyUse | undefined,
  {
    bytes,
    ...own
  }: Pick<NewImage, 'index' | 'width' | 'height' | 'seed' | 'seedIndex' | 'format' | 'blobKey'> & {
    bytes: Uint8Array
  },
): NewImage {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return {
    ...own,
    bucket: { width, height },
    promptTruncated,
    modelVersion,
    timings,
    receipt,
    joules: energy?.joules ?? null,
    energySource: energy?.source ?? null,
    sizeBytes: bytes.length,
    sha256,
  }
}
