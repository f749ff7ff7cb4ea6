/**
 * Every change of a generation's state, each one transaction with its job, its events and its notifications.
 *
 *   create → queued ─ claim, then begin → running ─ succeed | fail → final
 *               ↑───── handBack ───────────┘         queued | running ─ cancel → final ─ delete
 *
 * A claimed generation still counts as queued until a device has begun with it. An outcome is fenced: it is written only
 * while the row is claimed by the attempt that computed it. A claim begins a new attempt, so whoever held the row before can
 * no longer write. What a process held that is gone goes back to the queue (`takeBack`).
 *
 * Every transaction may be made again after one whose end is not known: what was done already is not done twice.
 */
import type { Caller } from '../access/caller.ts'
import type { Project } from '../access/project.ts'
import { notify, Prisma, type Transaction } from '../storage/database.ts'
import { isDeadlock } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'
import type { Priority } from '../engine/pool.ts'
import { spend } from './allowance.ts'
import { GenerationError } from './errors.ts'
import { addEvents, eventChannel } from './event-log.ts'
import type { EventDetails, FinalEventDetails } from './events.ts'
import {
  generationIdOf,
  isSettled,
  jobIdOf,
  newGenerationId,
  newImageId,
  toColumns,
  toGeneration,
  type Failure,
  type Generation,
  type ImageRecord,
  type QueuedGeneration,
} from './generation.ts'
import { claimKey, findKey, fingerprintOf, type IdempotentCall } from './idempotency.ts'
import type { GenerationParameters } from './parameters.ts'
import { howManyFit, turnOf, type Load, type Window } from './turns.ts'
import { addDelivery, type Webhook } from '../webhooks/deliveries.ts'

/** Told when a generation has become final; the payload is its id. */
export const settledChannel = 'atelier_generation_settled'

/** A request that a device was working on each of the times its process died is taken to be the cause. */
export const maxCrashes = 5
/** From so many on it is claimed first and alone, so that it takes no other request down with it. */
const suspectCrashes = 2
const firstTurn = new Date(Date.UTC(2000, 0))

export interface NewGeneration {
  readonly caller: Caller
  readonly parameters: GenerationParameters
  readonly requestId: string
  readonly user: string | undefined
  readonly priority: Priority
  readonly deadline: Date | undefined
  readonly previewSteps: readonly number[]
  readonly expectedMs: number
  readonly rowTokens: number
  readonly webhook?: Webhook | undefined
  readonly idempotency: IdempotentCall | undefined
}

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

/** How many generations wait again, and which were given up. */
export interface Recovery {
  readonly waiting: number
  readonly failed: readonly string[]
}

export class GenerationStore {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * `admit` sees the expected work of all that waits and runs, and throws to refuse more; a replay is never refused.
   * @throws {GenerationError} `idempotency_conflict`, `generation_deleted`, `in_flight_limit`, `images_limit`
   */
  async create(
    request: NewGeneration,
    admit: (workMs: number) => void,
  ): Promise<{ generation: Generation; replayed: boolean }> {
    const { caller, parameters, idempotency, previewSteps, webhook, ...columns } = request
    const { project } = caller
    const fingerprint = idempotency && fingerprintOf(idempotency)
    const createdAt = new Date()
    const turnAt = turnOf({ ...request, createdAt })
    const id = newGenerationId()
    for (;;) {
      const key = fingerprint && (await findKey(this.#prisma, fingerprint))
      if (key) return { generation: await this.#expectReplay(project, key.generationId), replayed: true }
      const accepted = await this.#transaction(async (transaction) => {
        // A twin with the same key may have committed since the look: then its generation is the answer.
        if (fingerprint && !(await claimKey(transaction, fingerprint, { generationId: id }))) return undefined
        if (caller.key) await spend(transaction, caller.key, parameters.count)
        const { workMs, position } = await lookAhead(transaction, turnAt)
        admit(workMs)
        const row = await transaction.generation.create({
          data: {
            ...columns,
            ...toColumns(parameters),
            id,
            project,
            keyId: caller.key?.id ?? null,
            user: request.user ?? null,
            deadline: request.deadline ?? null,
            previewSteps: [...previewSteps],
            webhookUrl: webhook?.url ?? null,
            webhookEvents: [...(webhook?.events ?? [])],
            createdAt,
            turnAt,
            eventCount: 1,
          },
        })
        const events: EventDetails[] = [{ type: 'queued', position }]
        await addEvents(transaction, [{ generationId: id, eventCount: 1, events }], []) // nobody knows of it yet
        await this.#storage.generationQueue.send(transaction, [{ id: jobIdOf(id), turnAt }])
        return toGeneration({ ...row, images: [] })
      })
      if (accepted) return { generation: accepted, replayed: false }
    }
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
    return this.#transaction(async (transaction) => {
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
    const written = await this.#transaction(async (transaction) => {
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

  /**
   * Does nothing to a generation that is final already.
   * @returns whether it was not
   */
  async cancel(project: Project, id: string): Promise<boolean> {
    return this.#transaction(async (transaction) => {
      const [row] = await transaction.generation.updateManyAndReturn({
        where: { id, project, state: { in: ['queued', 'running'] } },
        data: {
          state: 'cancelled',
          finishedAt: new Date(),
          claimed: false,
          heldBy: null,
          eventCount: { increment: 1 },
        },
        select: { eventCount: true },
      })
      if (!row) return false
      await this.#afterSettled(transaction, id, row.eventCount, [], { type: 'cancelled' })
      return true
    })
  }

  /**
   * Removes a final generation, its pictures and its events.
   * @returns the blobs that nobody needs any more; undefined when there is no such generation
   * @throws {GenerationError} `not_settled`
   */
  async delete(project: Project, id: string): Promise<string[] | undefined> {
    return this.#transaction(async (transaction) => {
      const row = await transaction.generation.findUnique({
        where: { id, project },
        include: { images: true, events: { where: { blobKey: { not: null } } } },
      })
      if (!row) return undefined
      if (!isSettled(toGeneration(row))) {
        throw new GenerationError('not_settled', `the generation is ${row.state}; cancel it first`)
      }
      await transaction.generation.delete({ where: { id, project } })
      await notify(transaction, eventChannel, id)
      return [...row.images, ...row.events].flatMap(({ blobKey }) => blobKey ?? [])
    })
  }

  /** Gives a claimed generation back unfinished: it waits at its old place. */
  async handBack({ id, attempt }: Attempt, unwritten: Unwritten): Promise<Outcome> {
    return this.#transaction(async (transaction) => {
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

  /**
   * At the start of the only process of a database: every generation that is not final waits again, with a job made
   * anew, whatever the queue remembers. Cut short at any point, it does the same at the next start.
   * @returns how many wait, and which were given up
   */
  async recover(): Promise<Recovery> {
    await this.#storage.generationQueue.clear()
    return this.#transaction(async (transaction) => {
      const claimed = await transaction.generation.findMany({
        where: { claimed: true },
        select: { id: true },
      })
      const failed = await this.#free(
        transaction,
        claimed.map(({ id }) => id),
      )
      const waiting = await transaction.generation.findMany({
        where: { state: 'queued' },
        select: { id: true, turnAt: true },
      })
      await this.#storage.generationQueue.send(
        transaction,
        waiting.map(({ id, turnAt }) => ({ id: jobIdOf(id), turnAt })),
      )
      return { waiting: waiting.length, failed }
    })
  }

  /** What processes held that are gone waits again, as after `recover`. Every process may call it, at any time. */
  async takeBack(): Promise<Recovery> {
    const { generationQueue, presence } = this.#storage
    return this.#transaction(async (transaction) => {
      const left = await transaction.$queryRaw<{ id: string }[]>`
        SELECT "id" FROM "Generation" AS row WHERE "claimed" AND ${presence.isGone(Prisma.sql`row."heldBy"`)}
        ORDER BY "turnAt", "id" LIMIT ${takenBackTogether} FOR UPDATE SKIP LOCKED`
      if (left.length === 0) return { waiting: 0, failed: [] }
      const ids = left.map(({ id }) => id)
      const failed = await this.#free(transaction, ids)
      const waiting = await transaction.generation.findMany({
        where: { id: { in: ids }, state: 'queued' },
        select: { id: true, turnAt: true },
      })
      const jobs = waiting.map(({ id, turnAt }) => ({ id: jobIdOf(id), turnAt }))
      for (const { id } of jobs) await generationQueue.remove(transaction, id)
      await generationQueue.send(transaction, jobs)
      return { waiting: waiting.length, failed }
    })
  }

  /**
   * Claimed generations whose worker is no more wait again. Those that a device was working on have seen one more crash; one
   * that has seen `maxCrashes` fails.
   * @returns the ids of those that failed
   */
  async #free(transaction: Transaction, ids: readonly string[]): Promise<string[]> {
    const crashed = await transaction.generation.updateManyAndReturn({
      where: { id: { in: [...ids] }, state: 'running' },
      data: { crashes: { increment: 1 }, eventCount: { increment: 1 } },
      select: { id: true, crashes: true, eventCount: true },
    })
    const failed = crashed.filter(({ crashes }) => crashes >= maxCrashes)
    const { code, message } = serverFailed
    await transaction.generation.updateMany({
      where: { id: { in: failed.map(({ id }) => id) } },
      data: {
        state: 'failed',
        claimed: false,
        heldBy: null,
        errorCode: code,
        errorMessage: message,
        finishedAt: new Date(),
      },
    })
    for (const { id, eventCount } of failed) {
      await this.#afterSettled(transaction, id, eventCount, [], { type: 'failed', error: serverFailed })
    }
    await transaction.generation.updateMany({
      where: { id: { in: [...ids] }, state: 'running', crashes: { gte: suspectCrashes } },
      data: { turnAt: firstTurn },
    })
    await transaction.generation.updateMany({
      where: { id: { in: [...ids] }, claimed: true },
      data: { state: 'queued', claimed: false, heldBy: null, startedAt: null },
    })
    const again = crashed.filter(({ crashes }) => crashes < maxCrashes)
    const places = await placesOf(
      transaction,
      again.map(({ id }) => id),
    )
    await addEvents(
      transaction,
      again.map(({ id, eventCount }) => ({
        generationId: id,
        eventCount,
        events: [{ type: 'queued', position: places.get(id) ?? 0 }],
      })),
    )
    return failed.map(({ id }) => id)
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
    return this.#transaction(async (transaction) => {
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
      await this.#afterSettled(transaction, id, row.eventCount, events, final)
      return 'written'
    })
  }

  async #afterSettled(
    transaction: Transaction,
    generationId: string,
    eventCount: number,
    events: readonly EventDetails[],
    final: FinalEventDetails,
  ): Promise<void> {
    const added = { generationId, eventCount, events: [...events, final] }
    await addEvents(transaction, [added], [eventChannel, settledChannel])
    await addDelivery(transaction, generationId, `generation.${final.type}`)
    await this.#storage.generationQueue.remove(transaction, jobIdOf(generationId))
  }

  async #expectReplay(project: Project, generationId: string | null): Promise<Generation> {
    const row =
      generationId === null
        ? undefined
        : await this.#prisma.generation.findUnique({
            where: { id: generationId, project },
            include: { images: true },
          })
    if (row) return toGeneration(row)
    throw new GenerationError(
      'generation_deleted',
      'the generation that this Idempotency-Key made was deleted since',
    )
  }

  get #prisma() {
    return this.#storage.database.prisma
  }

  /** Rows and jobs are locked in different orders, now and then by two who then wait for each other. */
  async #transaction<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await this.#prisma.$transaction(work)
      } catch (error) {
        if (!isDeadlock(error)) throw error
      }
    }
  }
}

const takenBackTogether = 100

const serverFailed: Failure = {
  code: 'server_failed',
  message: `The server died ${maxCrashes} times while it worked on this request, which is not tried again.`,
}

/** How many waiting generations have their turn before each of these. */
async function placesOf(transaction: Transaction, ids: readonly string[]): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map()
  const rows = await transaction.$queryRaw<{ id: string; position: number }[]>`
    SELECT "id", "position" FROM (
      SELECT "id", (row_number() OVER (ORDER BY "turnAt", "id") - 1)::int AS "position"
      FROM "Generation" WHERE "state" = 'queued') AS waiting
    WHERE "id" IN (SELECT jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb))`
  return new Map(rows.map(({ id, position }) => [id, position]))
}

/** The work of all that waits and runs, and how many generations have their turn before one at `turnAt`. */
async function lookAhead(
  transaction: Transaction,
  turnAt: Date,
  id = '',
): Promise<{ workMs: number; position: number }> {
  const [row] = await transaction.$queryRaw<[{ workMs: number; position: number }]>`
    SELECT coalesce(sum("expectedMs"), 0) AS "workMs",
      (count(*) FILTER (WHERE "state" = 'queued' AND "turnAt" <= ${turnAt} AND "id" <> ${id}))::int AS "position"
    FROM "Generation" WHERE "state" IN ('queued', 'running')`
  return row
}
