/**
 * What workers change of generations: they claim them, tell of them, and bring them to their end or hand them back.
 *
 * A claimed generation still counts as queued until a device has begun with it. An outcome is fenced: it is written only
 * while the row is claimed by the attempt that computed it. A claim begins a new attempt, so whoever held the row before can
 * no longer write.
 */
import type { Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { inTransaction } from '../storage/transactions.ts'
import { addEvents } from './event-log.ts'
import type { EventDetails, FinalEventDetails } from './events.ts'
import {
  generationIdOf,
  jobIdOf,
  newImageId,
  toGeneration,
  type Failure,
  type ImageRecord,
  type QueuedGeneration,
} from './generation.ts'
import { lookAhead } from './places.ts'
import { suspectCrashes } from './recovery.ts'
import { afterSettled } from './settling.ts'
import { howManyFit, type Load, type Window } from './turns.ts'

/** A generation that this process has taken from the queue. */
export type ClaimedGeneration = QueuedGeneration & {
  readonly expectedMs: number
  /** It was in hand when its process died before: nothing else is to be in hand beside it. */
  readonly isSuspect: boolean
}

/** Which attempt writes. */
export type Attempt = Pick<ClaimedGeneration, 'id' | 'attempt'>

export type NewImage = Omit<ImageRecord, 'id' | 'generationId' | 'createdAt' | 'parameters' | 'receipt'> & {
  readonly receipt: NonNullable<ImageRecord['receipt']>
}

/** What a device has told of a claimed generation and no row knows yet. */
export interface Unwritten {
  /** When a device began with it; undefined when none has. */
  readonly startedAt: Date | undefined
  readonly events: readonly EventDetails[]
}

/** Whether this attempt still held the row; when not, nothing was written. */
export type Outcome = 'written' | 'lost'

export class GenerationLeases {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * Takes generations in the order of their turns, as many as fit beside what is held, but no more than a fair share of what
   * waits; each begins a new attempt.
   */
  async claim(held: Load, window: Window): Promise<ClaimedGeneration[]> {
    const { generationQueue, presence } = this.#storage
    const waiting = await this.#prisma.generation.findMany({
      where: { state: 'queued', claimed: false },
      orderBy: [{ turnAt: 'asc' }, { id: 'asc' }],
      take: window.images,
      select: { expectedMs: true, count: true, crashes: true },
    })
    const [first] = waiting
    if (!first) return []
    const isSuspect = first.crashes >= suspectCrashes
    const fit = isSuspect ? (held.count === 0 ? 1 : 0) : howManyFit(waiting, held, window)
    if (fit === 0) return []
    const workers = Math.max(1, await presence.countWorkers())
    const limit = Math.min(fit, Math.ceil(waiting.length / workers))
    return inTransaction(this.#storage.database, async (transaction) => {
      const heldBy = await presence.require(transaction)
      const jobIds = await generationQueue.fetch(transaction, limit)
      const ids = jobIds.map(generationIdOf)
      const rows = await transaction.generation.updateManyAndReturn({
        where: { id: { in: ids }, state: 'queued', claimed: false },
        data: { claimed: true, heldBy, attempt: { increment: 1 } },
      })
      await this.#removeJobsOfNobody(transaction, ids)
      return rows
        .toSorted((a, b) => a.turnAt.getTime() - b.turnAt.getTime() || (a.id < b.id ? -1 : 1))
        .map((row) => ({
          ...(toGeneration({ ...row, images: [] }) as QueuedGeneration),
          expectedMs: row.expectedMs,
          isSuspect: row.crashes >= suspectCrashes,
        }))
    })
  }

  /**
   * Writes what devices have told of generations: that they run, and their events.
   * @returns the ids of those that are no longer claimed by that attempt; nothing of theirs was written
   */
  async writeProgress(told: readonly (Attempt & Unwritten)[]): Promise<Set<string>> {
    const written = await inTransaction(this.#storage.database, async (transaction) => {
      const entries = told.map(({ id, attempt, startedAt, events }) => ({
        id,
        attempt,
        startedAt,
        added: events.length,
      }))
      const rows = await transaction.$queryRaw<{ id: string; eventCount: number }[]>`
        UPDATE "Generation" AS row
        SET "state" = 'running', "startedAt" = coalesce(row."startedAt", told."startedAt"),
          "eventCount" = row."eventCount" + told."added"
        FROM jsonb_to_recordset(${JSON.stringify(entries)}::jsonb)
          AS told("id" text, "attempt" int, "startedAt" timestamptz, "added" int)
        WHERE row."id" = told."id" AND row."attempt" = told."attempt" AND row."claimed"
        RETURNING row."id", row."eventCount"`
      const events = new Map(told.map(({ id, events }) => [id, events]))
      await addEvents(
        transaction,
        rows.map(({ id, eventCount }) => ({ generationId: id, eventCount, events: events.get(id) ?? [] })),
      )
      return new Set(rows.map(({ id }) => id))
    })
    return new Set(told.map(({ id }) => id).filter((id) => !written.has(id)))
  }

  async succeed(
    attempt: Attempt,
    images: readonly [NewImage, ...NewImage[]],
    unwritten: Unwritten,
  ): Promise<Outcome> {
    return this.#settle(
      attempt,
      { state: 'succeeded', modelVersion: images[0].modelVersion },
      unwritten,
      { type: 'succeeded' },
      async (transaction) => {
        await transaction.image.createMany({
          data: images.map(({ bucket, timings, receipt, seed, ...image }) => ({
            ...image,
            ...timings,
            ...receipt,
            id: newImageId(),
            generationId: attempt.id,
            seed: BigInt(seed),
            bucketWidth: bucket.width,
            bucketHeight: bucket.height,
          })),
        })
      },
    )
  }

  async fail(attempt: Attempt, error: Failure, unwritten: Unwritten): Promise<Outcome> {
    const outcome = { state: 'failed', errorCode: error.code, errorMessage: error.message } as const
    return this.#settle(attempt, outcome, unwritten, { type: 'failed', error })
  }

  /** Gives a claimed generation back unfinished: it waits at its old place. */
  async handBack({ id, attempt }: Attempt, unwritten: Unwritten): Promise<Outcome> {
    return inTransaction(this.#storage.database, async (transaction) => {
      const [row] = await transaction.$queryRaw<{ state: string; turnAt: Date; eventCount: number }[]>`
        SELECT "state"::text, "turnAt", "eventCount" FROM "Generation"
        WHERE "id" = ${id} AND "attempt" = ${attempt} AND "claimed" FOR UPDATE`
      if (!row) return 'lost'
      const events = [...unwritten.events]
      if (row.state === 'running' || unwritten.startedAt) {
        events.push({ type: 'queued', position: (await lookAhead(transaction, row.turnAt, id)).position })
      }
      const eventCount = row.eventCount + events.length
      await transaction.generation.update({
        where: { id },
        data: { state: 'queued', claimed: false, heldBy: null, startedAt: null, eventCount },
      })
      await addEvents(transaction, [{ generationId: id, eventCount, events }])
      await this.#storage.generationQueue.handBack(transaction, jobIdOf(id))
      return 'written'
    })
  }

  /** Which of these attempts still hold their rows. */
  async stillHeld(attempts: readonly Attempt[]): Promise<Set<string>> {
    const rows = await this.#prisma.generation.findMany({
      where: { claimed: true, OR: attempts.map(({ id, attempt }) => ({ id, attempt })) },
      select: { id: true },
    })
    return new Set(rows.map(({ id }) => id))
  }

  /** Of rows that are final, or gone. */
  async #removeJobsOfNobody(transaction: Transaction, ids: readonly string[]): Promise<void> {
    const alive = await transaction.generation.findMany({
      where: { id: { in: [...ids] }, state: { in: ['queued', 'running'] } },
      select: { id: true },
    })
    const known = new Set(alive.map(({ id }) => id))
    for (const id of ids)
      if (!known.has(id)) await this.#storage.generationQueue.remove(transaction, jobIdOf(id))
  }

  async #settle(
    { id, attempt }: Attempt,
    outcome:
      | { state: 'succeeded'; modelVersion: string }
      | { state: 'failed'; errorCode: string; errorMessage: string },
    unwritten: Unwritten,
    final: FinalEventDetails,
    more?: (transaction: Transaction) => Promise<void>,
  ): Promise<Outcome> {
    const { startedAt, events } = unwritten
    return inTransaction(this.#storage.database, async (transaction) => {
      const [row] = await transaction.generation.updateManyAndReturn({
        where: { id, attempt, claimed: true },
        data: {
          ...outcome,
          ...(startedAt ? { startedAt } : {}),
          claimed: false,
          heldBy: null,
          finishedAt: new Date(),
          eventCount: { increment: events.length + 1 },
        },
        select: { eventCount: true },
      })
      if (!row) {
        // Only this attempt can have written it, before an answer that never came.
        const own = await transaction.generation.findUnique({ where: { id, attempt, state: outcome.state } })
        return own ? 'written' : 'lost'
      }
      await more?.(transaction)
      await afterSettled(this.#storage, transaction, id, row.eventCount, events, final)
      return 'written'
    })
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}
