/**
 * What the process that receives or checks a dataset writes of it. These writes are fenced: they are made only while the row is held
 * by who makes them, so that a process which was stopped, or cut off, writes nothing into what another has taken over. What processes
 * held that are gone is taken up by others.
 */
import { Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { throughOutages } from '../storage/outage.ts'
import { inTransaction } from '../storage/transactions.ts'
import type { DatasetCounts, DatasetFailure } from './dataset.ts'
import type { CheckedItem } from './join.ts'
import type { Problem } from './problems.ts'

/** A dataset, and under which id this process has taken it. */
export interface Claim {
  readonly id: string
  readonly heldBy: string
}

/** Another process has taken the dataset over, or it was deleted; nothing was written. */
export class ClaimLost extends Error {
  override readonly name = 'ClaimLost'
}

export interface Taken {
  /** To be checked by this process now. */
  readonly again: readonly Claim[]
  /** Failed: nobody needs their files. */
  readonly failed: readonly string[]
}

/** A dataset under which the server died so often is taken to be the cause. */
const maxAttempts = 3

/** Every write of a claim throws {@link ClaimLost}. */
export class DatasetClaims {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async received(claim: Claim, bytes: number): Promise<void> {
    await this.#update(claim, { receivedBytes: bytes })
  }

  /** All of it is there. */
  async arrived(claim: Claim, bytes: number): Promise<void> {
    await this.#update(claim, { receivedBytes: bytes, state: 'validating' })
  }

  /** @returns the attempt's number, which no other has that may still run */
  async beginAttempt(claim: Claim): Promise<number> {
    return this.#held(claim, async (transaction) => {
      const data = { attempt: { increment: 1 } }
      return (await transaction.dataset.update({ where: { id: claim.id }, data })).attempt
    })
  }

  /** Forgets what was found so far. */
  async beginAnew(claim: Claim): Promise<void> {
    await this.#held(claim, async (transaction) => {
      const { id } = claim
      await transaction.datasetProblem.deleteMany({ where: { datasetId: id } })
      await transaction.datasetItem.deleteMany({ where: { datasetId: id } })
      await transaction.dataset.update({ where: { id }, data: { filesRead: 0, problems: 0 } })
    })
  }

  async read(claim: Claim, { files, problems }: { files: number; problems: number }): Promise<void> {
    await this.#update(claim, { filesRead: files, problems })
  }

  async addItems(claim: Claim, items: readonly CheckedItem[], firstPosition: number): Promise<void> {
    await this.#held(claim, (transaction) =>
      transaction.datasetItem.createMany({
        data: items.map(({ file: _file, label, aestheticScore, captions, ...item }, index) => ({
          ...item,
          datasetId: claim.id,
          position: firstPosition + index,
          captions: [...captions],
          label: label ?? null,
          aestheticScore: aestheticScore ?? null,
        })),
      }),
    )
  }

  async addProblems(claim: Claim, problems: readonly Problem[], firstPosition: number): Promise<void> {
    await this.#held(claim, (transaction) =>
      transaction.datasetProblem.createMany({
        data: problems.map((problem, index) => ({
          ...problem,
          itemId: problem.itemId ?? null,
          datasetId: claim.id,
          position: firstPosition + index,
        })),
      }),
    )
  }

  async succeed(claim: Claim, counts: DatasetCounts): Promise<void> {
    await this.#update(claim, { ...counts, state: 'ready', finishedAt: new Date() })
  }

  /** Its problems stay, to tell why. */
  async fail(claim: Claim, { code, message }: DatasetFailure): Promise<void> {
    await this.#held(claim, async (transaction) => {
      const { id } = claim
      await transaction.datasetProblem.updateMany({ where: { datasetId: id }, data: { itemId: null } })
      await transaction.datasetItem.deleteMany({ where: { datasetId: id } })
      const data = { errorCode: code, errorMessage: message, finishedAt: new Date() }
      await transaction.dataset.update({ where: { id }, data: { ...data, state: 'failed' } })
    })
  }

  /** An attempt that ends because the server shuts down in order counts for nothing. @param attempt undefined where none was begun */
  async handBack(claim: Claim, attempt: number | undefined): Promise<void> {
    await this.#update(claim, { ...(attempt !== undefined && { attempt: attempt - 1 }), heldBy: null })
  }

  /** What processes left that are gone: uploads that broke off fail, what was being checked is checked anew. */
  async takeUp(): Promise<Taken> {
    const { presence } = this.#storage
    const left = await inTransaction(this.#storage.database, async (transaction) => {
      const heldBy = await presence.require(transaction)
      return transaction.$queryRaw<(Claim & { state: string; attempt: number })[]>`
        UPDATE "Dataset" SET "heldBy" = ${heldBy} WHERE "id" IN (
          SELECT "id" FROM "Dataset" AS row WHERE "state" IN ('receiving', 'validating')
            AND ${presence.isGone(Prisma.sql`row."heldBy"`)}
          ORDER BY "createdAt", "id" FOR UPDATE SKIP LOCKED)
        RETURNING "id", "heldBy", "state"::text, "attempt"`
    })
    const again: Claim[] = []
    const failed: string[] = []
    for (const { id, heldBy, state, attempt } of left) {
      const failure = failureOf(state, attempt)
      if (!failure) again.push({ id, heldBy })
      else if (await this.#couldFail({ id, heldBy }, failure)) failed.push(id)
    }
    return { again, failed }
  }

  /** @returns false for one that was deleted, or taken over, meanwhile */
  async #couldFail(claim: Claim, failure: DatasetFailure): Promise<boolean> {
    try {
      await throughOutages(() => this.fail(claim, failure))
      return true
    } catch (error) {
      if (error instanceof ClaimLost) return false
      throw error
    }
  }

  async #update({ id, heldBy }: Claim, data: Prisma.DatasetUpdateManyMutationInput): Promise<void> {
    const { count } = await this.#storage.database.prisma.dataset.updateMany({
      where: { id, heldBy, state: { in: ['receiving', 'validating'] } },
      data,
    })
    if (count === 0) throw lost(id)
  }

  /** Nobody takes it over meanwhile. */
  async #held<T>({ id, heldBy }: Claim, write: (transaction: Transaction) => Promise<T>): Promise<T> {
    return inTransaction(this.#storage.database, async (transaction) => {
      const rows = await transaction.$queryRaw<unknown[]>`
        SELECT 1 FROM "Dataset" WHERE "id" = ${id} AND "heldBy" = ${heldBy}
          AND "state" IN ('receiving', 'validating') FOR UPDATE`
      if (rows.length === 0) throw lost(id)
      return write(transaction)
    })
  }
}

const lost = (id: string): ClaimLost => new ClaimLost(`${id} is not held by this process any more`)

/** @returns undefined for what can be checked anew */
function failureOf(state: string, attempt: number): DatasetFailure | undefined {
  if (state === 'receiving') {
    const message = 'the server stopped before all of it had come; send it again'
    return { code: 'interrupted', message }
  }
  if (attempt < maxAttempts) return undefined
  return {
    code: 'server_failed',
    message: `the server stopped ${attempt} times while it checked these files`,
  }
}
