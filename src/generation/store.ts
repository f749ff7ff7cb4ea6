/**
 * Every change of a generation's state, each one transaction with its job and its notification.
 *
 *   create → queued ─ claim → running ─ succeed | fail → final
 *               ↑───── handBack ──┘         queued | running ─ cancel → final
 *
 * An outcome is fenced: it is written only while the row is still running in the attempt that computed it. A claim
 * begins a new attempt, so whoever held the row before can no longer write.
 */
import { createHash } from 'node:crypto'
import { notify, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { GenerationError } from './errors.ts'
import {
  generationIdOf,
  jobIdOf,
  newGenerationId,
  newImageId,
  toColumns,
  toGeneration,
  toImageRecord,
  type Failure,
  type Generation,
  type ImageRecord,
  type RunningGeneration,
} from './generation.ts'
import type { GenerationParameters } from './parameters.ts'

/** Told when a generation has become final; the payload is its id. */
export const settledChannel = 'atelier_generation_settled'

const idempotencyMs = 24 * 60 * 60 * 1000

export interface NewGeneration {
  readonly parameters: GenerationParameters
  readonly requestId: string
  readonly user: string | undefined
  readonly idempotency: { readonly key: string; readonly body: unknown } | undefined
}

export type NewImage = Omit<ImageRecord, 'id' | 'generationId' | 'createdAt' | 'parameters'>

/** Whether this attempt still held the row; when not, nothing was written. */
export type Outcome = 'written' | 'lost'

export class GenerationStore {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * `admit` sees the number of waiting generations and throws to refuse one more; a replay is never refused.
   * @throws {GenerationError} `idempotency_conflict`
   */
  async create(
    request: NewGeneration,
    admit: (queued: number) => void,
  ): Promise<{ generation: Generation; replayed: boolean }> {
    const { parameters, requestId, idempotency } = request
    const bodySha256 = createHash('sha256').update(canonicalJson(idempotency?.body)).digest('hex')
    const earlier = idempotency && (await this.#replay(idempotency.key, bodySha256))
    if (earlier) return { generation: earlier, replayed: true }

    const id = newGenerationId()
    const accepted = await this.#transaction(async (transaction) => {
      const row = await transaction.generation.create({
        data: { id, requestId, user: request.user ?? null, ...toColumns(parameters) },
        include: { images: true },
      })
      if (idempotency && !(await claimKey(transaction, idempotency.key, bodySha256, id)))
        throw new TwinFirst()
      admit((await transaction.generation.count({ where: { state: 'queued' } })) - 1)
      await this.#storage.generationQueue.send(transaction, jobIdOf(id))
      return toGeneration(row)
    }).catch((error: unknown) => {
      if (error instanceof TwinFirst) return undefined
      throw error
    })
    // A twin with the same key committed between the look and the insert: its generation is the answer.
    return accepted ? { generation: accepted, replayed: false } : this.create(request, admit)
  }

  async get(id: string): Promise<Generation | undefined> {
    const row = await this.#prisma.generation.findUnique({ where: { id }, include: { images: true } })
    return row ? toGeneration(row) : undefined
  }

  async image(id: string): Promise<ImageRecord | undefined> {
    const row = await this.#prisma.image.findUnique({ where: { id }, include: { generation: true } })
    return row ? toImageRecord(row) : undefined
  }

  async count(): Promise<{ queued: number; running: number }> {
    const [queued, running] = await Promise.all([
      this.#prisma.generation.count({ where: { state: 'queued' } }),
      this.#prisma.generation.count({ where: { state: 'running' } }),
    ])
    return { queued, running }
  }

  /** Takes up to `limit` generations in the order of their arrival; each begins a new attempt. */
  async claim(limit: number): Promise<RunningGeneration[]> {
    return this.#transaction(async (transaction) => {
      const jobIds = await this.#storage.generationQueue.fetch(transaction, limit)
      if (jobIds.length === 0) return []
      const where = { id: { in: jobIds.map(generationIdOf) } }
      await transaction.generation.updateMany({
        where: { ...where, state: { in: ['queued', 'running'] } },
        data: { state: 'running', attempt: { increment: 1 }, startedAt: new Date() },
      })
      const rows = await transaction.generation.findMany({
        where,
        include: { images: true },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      })
      const running = rows.map(toGeneration).filter((generation) => generation.state === 'running')
      const taken = new Set(running.map(({ id }) => jobIdOf(id)))
      for (const jobId of jobIds) {
        if (!taken.has(jobId)) await this.#storage.generationQueue.remove(transaction, jobId) // its row is gone
      }
      return running
    })
  }

  async succeed(generation: RunningGeneration, images: readonly [NewImage, ...NewImage[]]): Promise<Outcome> {
    return this.#settle(
      generation,
      { state: 'succeeded', modelVersion: images[0].modelVersion },
      async (transaction) => {
        await transaction.image.createMany({
          data: images.map(({ bucket, timings, seed, ...image }) => ({
            ...image,
            ...timings,
            id: newImageId(),
            generationId: generation.id,
            seed: BigInt(seed),
            bucketWidth: bucket.width,
            bucketHeight: bucket.height,
          })),
        })
      },
    )
  }

  async fail(generation: RunningGeneration, { code, message }: Failure): Promise<Outcome> {
    return this.#settle(generation, { state: 'failed', errorCode: code, errorMessage: message })
  }

  /** Does nothing to a generation that is final already. */
  async cancel(id: string): Promise<Generation | undefined> {
    await this.#transaction(async (transaction) => {
      const { count } = await transaction.generation.updateMany({
        where: { id, state: { in: ['queued', 'running'] } },
        data: { state: 'cancelled', finishedAt: new Date() },
      })
      if (count > 0) await this.#afterSettled(transaction, id)
    })
    return this.get(id)
  }

  /** Gives a claimed generation back unfinished: it waits at its old place. */
  async handBack({ id, attempt }: RunningGeneration): Promise<Outcome> {
    return this.#transaction(async (transaction) => {
      const { count } = await transaction.generation.updateMany({
        where: { id, attempt, state: 'running' },
        data: { state: 'queued', startedAt: null },
      })
      if (count === 0) return 'lost'
      await this.#storage.generationQueue.handBack(transaction, jobIdOf(id))
      return 'written'
    })
  }

  /**
   * At the start of the only process of a database: every generation that is not final waits again, with a job made
   * anew, whatever the queue remembers. Cut short at any point, it does the same at the next start.
   * @returns how many wait
   */
  async recover(): Promise<number> {
    await this.#storage.generationQueue.clear()
    return this.#transaction(async (transaction) => {
      await transaction.generation.updateMany({
        where: { state: 'running' },
        data: { state: 'queued', startedAt: null },
      })
      const waiting = await transaction.generation.findMany({
        where: { state: 'queued' },
        select: { id: true },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      })
      await this.#storage.generationQueue.sendAgain(
        transaction,
        waiting.map(({ id }) => jobIdOf(id)),
      )
      return waiting.length
    })
  }

  /** Which of these blobs no picture's row knows. */
  async unknownBlobs(keys: readonly string[]): Promise<string[]> {
    const rows = await this.#prisma.image.findMany({
      where: { blobKey: { in: [...keys] } },
      select: { blobKey: true },
    })
    const known = new Set(rows.map(({ blobKey }) => blobKey))
    return keys.filter((key) => !known.has(key))
  }

  async #settle(
    { id, attempt }: RunningGeneration,
    outcome:
      | { state: 'succeeded'; modelVersion: string }
      | { state: 'failed'; errorCode: string; errorMessage: string },
    more?: (transaction: Transaction) => Promise<void>,
  ): Promise<Outcome> {
    return this.#transaction(async (transaction) => {
      const { count } = await transaction.generation.updateMany({
        where: { id, attempt, state: 'running' },
        data: { ...outcome, finishedAt: new Date() },
      })
      if (count === 0) return 'lost'
      await more?.(transaction)
      await this.#afterSettled(transaction, id)
      return 'written'
    })
  }

  async #afterSettled(transaction: Transaction, id: string): Promise<void> {
    await this.#storage.generationQueue.remove(transaction, jobIdOf(id))
    await notify(transaction, settledChannel, id)
  }

  async #replay(key: string, bodySha256: string): Promise<Generation | undefined> {
    const entry = await this.#prisma.idempotencyKey.findUnique({
      where: { key, createdAt: { gt: expiry() } },
    })
    if (!entry) return undefined
    if (entry.bodySha256 !== bodySha256) {
      throw new GenerationError(
        'idempotency_conflict',
        'this Idempotency-Key was used with another body in the last 24 hours',
      )
    }
    return this.get(entry.generationId)
  }

  get #prisma() {
    return this.#storage.database.prisma
  }

  #transaction<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    return this.#prisma.$transaction(work)
  }
}

/** Another request took the idempotency key first; rolls the transaction back. */
class TwinFirst extends Error {}

const expiry = () => new Date(Date.now() - idempotencyMs)

/** Drops keys that have expired, then takes this one; false when it is taken. Of concurrent twins one gets it. */
async function claimKey(
  transaction: Transaction,
  key: string,
  bodySha256: string,
  generationId: string,
): Promise<boolean> {
  await transaction.idempotencyKey.deleteMany({ where: { createdAt: { lte: expiry() } } })
  const { count } = await transaction.idempotencyKey.createMany({
    data: { key, bodySha256, generationId },
    skipDuplicates: true,
  })
  return count === 1
}

/** JSON with sorted keys: two bodies that mean the same have one hash. */
function canonicalJson(value: unknown): string {
  const sorted = (_: string, item: unknown): unknown =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item
  return JSON.stringify(value ?? null, sorted)
}
