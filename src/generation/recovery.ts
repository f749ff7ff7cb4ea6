/**
 * What a process held that is gone goes back to the queue. A request under which processes died again and again is taken to be
 * the cause, and fails.
 */
import { Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { inTransaction } from '../storage/transactions.ts'
import { addEvents } from './event-log.ts'
import { jobIdOf, type Failure } from './generation.ts'
import { placesOf } from './places.ts'
import { afterSettled } from './settling.ts'

/** A request that a device was working on each of the times its process died is taken to be the cause. */
export const maxCrashes = 5
/** From so many on it is claimed first and alone, so that it takes no other request down with it. */
export const suspectCrashes = 2
const firstTurn = new Date(Date.UTC(2000, 0))
const takenBackTogether = 100

const serverFailed: Failure = {
  code: 'server_failed',
  message: `The server died ${maxCrashes} times while it worked on this request, which is not tried again.`,
}

/** How many generations wait again, and which were given up. */
export interface Recovery {
  readonly waiting: number
  readonly failed: readonly string[]
}

export class GenerationRecovery {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * At the start of the only process of a database: every generation that is not final waits again, with a job made
   * anew, whatever the queue remembers. Cut short at any point, it does the same at the next start.
   * @returns how many wait, and which were given up
   */
  async recover(): Promise<Recovery> {
    await this.#storage.generationQueue.clear()
    return inTransaction(this.#storage.database, async (transaction) => {
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
  takeBack(): Promise<Recovery> {
    return this.#takeBack(this.#storage.presence.isGone(Prisma.sql`row."heldBy"`))
  }

  /**
   * What this process holds by its rows and does not know of waits again: it was claimed by a transaction that was committed and
   * never answered.
   * @param inHand all that it knows of
   */
  takeBackForgotten(inHand: readonly string[]): Promise<Recovery> {
    const known = Prisma.sql`SELECT jsonb_array_elements_text(${JSON.stringify(inHand)}::jsonb)`
    return this.#takeBack(
      Prisma.sql`row."heldBy" = ${this.#storage.presence.id} AND row."id" NOT IN (${known})`,
    )
  }

  async #takeBack(which: Prisma.Sql): Promise<Recovery> {
    const { database, generationQueue } = this.#storage
    return inTransaction(database, async (transaction) => {
      const left = await transaction.$queryRaw<{ id: string }[]>`
        SELECT "id" FROM "Generation" AS row WHERE "claimed" AND ${which}
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
      await afterSettled(this.#storage, transaction, id, eventCount, [], {
        type: 'failed',
        error: serverFailed,
      })
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
}
