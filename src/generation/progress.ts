/**
 * What devices tell of generations in hand: kept for who asks now, and written as events.
 *
 * Fast steps are coalesced. All generations' events are written together, at most five times a second, and each time at
 * most one step of a generation is, beside the last step of each of its pictures, which is never left out. So the database
 * sees a handful of transactions a second, however many steps the devices take.
 */
import type { Logger } from 'pino'
import type { ImageProgress, Picture } from '../engine/pool.ts'
import type { ContentPolicy } from '../policy/service.ts'
import type { BlobStore } from '../storage/blobs.ts'
import type { EventDetails } from './events.ts'
import { encodePreview } from './images.ts'
import type { ClaimedGeneration, GenerationLeases, Unwritten } from './leases.ts'
import { blobOwner } from './sweep.ts'

const betweenWritesMs = 200

interface InHand {
  readonly generation: ClaimedGeneration
  startedAt: Date | undefined
  unwritten: EventDetails[]
  readonly images: Map<number, { readonly step: number; readonly endsAtMs: number }>
  readonly previews: Set<Promise<void>>
  writing: Promise<void> | undefined
  /** Its end is being written, by somebody else and with what is unwritten here. */
  isEnding: boolean
}

export interface ProgressOptions {
  readonly leases: GenerationLeases
  readonly blobs: BlobStore
  readonly log: Logger
  /** Judges previews as it does pictures. */
  readonly policy: ContentPolicy
  /** The row is not that attempt's any more. */
  readonly onLost: (id: string) => void
}

export class ProgressLog {
  readonly #options: ProgressOptions
  readonly #inHand = new Map<string, InHand>()
  #writing = false
  #writtenAtMs = -Infinity
  #timer: NodeJS.Timeout | undefined

  constructor(options: ProgressOptions) {
    this.#options = options
  }

  add(generation: ClaimedGeneration): void {
    this.#inHand.set(generation.id, {
      generation,
      startedAt: undefined,
      unwritten: [],
      images: new Map(),
      previews: new Set(),
      writing: undefined,
      isEnding: false,
    })
  }

  /** @param image which picture of the generation */
  note(id: string, image: number, progress: ImageProgress): void {
    const entry = this.#inHand.get(id)
    if (!entry || entry.isEnding) return
    if (!entry.startedAt) {
      entry.startedAt = new Date()
      entry.unwritten.push({ type: 'started' })
    }
    const { steps } = entry.generation.parameters
    const step = entry.images.get(image)?.step ?? 0
    switch (progress.phase) {
      case 'started':
        entry.images.set(image, { step: 0, endsAtMs: Date.now() + progress.etaMs })
        break
      case 'denoising': {
        const { step, steps, etaMs, batchRows } = progress
        entry.images.set(image, { step, endsAtMs: Date.now() + etaMs })
        entry.unwritten = entry.unwritten.filter(
          (event) => event.type !== 'step' || event.step === event.steps,
        )
        entry.unwritten.push({ type: 'step', image, step, steps, etaSeconds: etaMs / 1000, batchRows })
        break
      }
      case 'decoding':
        entry.images.set(image, { step, endsAtMs: Date.now() + progress.etaMs })
        break
      case 'preview': {
        // Told in the order of the steps, however long each takes to encode.
        const earlier = Promise.all(entry.previews)
        const stored = this.#storePreview(entry, image, progress.step, steps, progress.picture, earlier)
        entry.previews.add(stored)
        void stored.finally(() => entry.previews.delete(stored))
        break
      }
    }
    this.#writeSoon()
  }

  /** Steps over all pictures and the expected time to the end; undefined for what is not in hand here. */
  statusOf(id: string): { step: number; steps: number; etaMs: number } | undefined {
    const entry = this.#inHand.get(id)
    if (!entry?.startedAt) return undefined
    const { parameters, expectedMs } = entry.generation
    const begun = [...entry.images.values()]
    const beginLater = (expectedMs / parameters.count) * (parameters.count - begun.length)
    const endsAtMs = Math.max(...begun.map((image) => image.endsAtMs))
    return {
      step: begun.reduce((sum, { step }) => sum + step, 0),
      steps: parameters.steps * parameters.count,
      etaMs: Math.max(0, endsAtMs - Date.now()) + beginLater,
    }
  }

  /** Before a generation's end is written: what was told of it and not written yet, to be written with the end. */
  async end(id: string): Promise<Unwritten> {
    const entry = this.#inHand.get(id)
    if (!entry) return { startedAt: undefined, events: [] }
    await Promise.all(entry.previews)
    entry.isEnding = true
    await entry.writing
    return { startedAt: entry.startedAt, events: entry.unwritten }
  }

  forget(id: string): void {
    this.#inHand.delete(id)
  }

  /** Deletes previews that no event will tell of. */
  async drop(events: readonly EventDetails[]): Promise<void> {
    for (const event of events) {
      if (event.type !== 'preview') continue
      await this.#options.blobs.delete(event.blobKey).catch((error: unknown) => {
        this.#options.log.warn({ err: error, blobKey: event.blobKey }, 'cannot delete an unused preview')
      })
    }
  }

  close(): void {
    clearTimeout(this.#timer)
  }

  async #storePreview(
    entry: InHand,
    image: number,
    step: number,
    steps: number,
    picture: Picture,
    earlier: Promise<unknown>,
  ): Promise<void> {
    const { blobs, log, policy } = this.#options
    try {
      const { bytes, width, height } = await encodePreview(picture, entry.generation.parameters)
      await policy.checkPicture(bytes, 'image/webp')
      const blobKey = await blobs.put(bytes, { extension: 'webp', owner: blobOwner(entry.generation) })
      await earlier
      const sizeBytes = bytes.length
      const preview: EventDetails = {
        type: 'preview',
        image,
        step,
        steps,
        blobKey,
        sizeBytes,
        width,
        height,
        format: 'webp',
      }
      entry.unwritten.push(preview)
      this.#writeSoon()
    } catch (error) {
      log.warn(
        { err: error, generation: entry.generation.id },
        'a preview could not be stored; it is left out',
      )
    }
  }

  #writeSoon(): void {
    if (this.#timer || this.#writing) return
    const waitMs = Math.max(0, this.#writtenAtMs + betweenWritesMs - Date.now())
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#write()
    }, waitMs)
  }

  async #write(): Promise<void> {
    const { leases, log, onLost } = this.#options
    const entries = [...this.#inHand.values()].filter(
      ({ isEnding, unwritten }) => !isEnding && unwritten.length > 0,
    )
    if (entries.length === 0) return
    const { promise: written, resolve } = Promise.withResolvers<void>()
    const told = entries.map((entry) => {
      const { generation, startedAt, unwritten: events } = entry
      entry.unwritten = []
      entry.writing = written
      return { id: generation.id, attempt: generation.attempt, startedAt, events }
    })
    this.#writing = true
    try {
      const lost = await leases.writeProgress(told)
      for (const { id, events } of told) {
        if (!lost.has(id)) continue
        onLost(id)
        await this.drop(events)
      }
    } catch (error) {
      // Their previews stay: whether the failed transaction was committed is not known here, and a sweep knows.
      log.error({ err: error }, 'cannot write the progress of generations; it is left out')
    } finally {
      this.#writing = false
      this.#writtenAtMs = Date.now()
      for (const entry of entries) entry.writing = undefined
      resolve()
      if ([...this.#inHand.values()].some((entry) => !entry.isEnding && entry.unwritten.length > 0))
        this.#writeSoon()
    }
  }
}
