/**
 * Idempotency keys: what a client sends again under the same key is done once. A key is kept for 24 hours with the
 * operation and a hash of the body that it was first sent with.
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Project } from '../access/project.ts'
import { Prisma, type Transaction } from '../storage/database.ts'
import { throughOutages } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'
import { GenerationError } from './errors.ts'

const keptMs = 24 * 60 * 60 * 1000
/** Before it is looked again whether a call that another process runs has its answer. */
const takenElsewhereMs = 100

export interface IdempotentCall {
  /** One project's keys are nothing to another. */
  readonly project: Project
  readonly key: string
  readonly operation: string
  readonly body: unknown
}

/** A call as it is kept and compared. */
export interface Fingerprint {
  readonly project: Project
  readonly key: string
  readonly operation: string
  readonly bodySha256: string
}

export function fingerprintOf({ body, ...call }: IdempotentCall): Fingerprint {
  return { ...call, bodySha256: createHash('sha256').update(canonicalJson(body)).digest('hex') }
}

/**
 * Takes a key that is new or has expired; false when it is taken. Of concurrent twins one gets it.
 * @param stands for a generation, or for an answer that a process is to give
 */
export async function claimKey(
  transaction: Transaction,
  { project, key, operation, bodySha256 }: Fingerprint,
  stands: { readonly generationId: string } | { readonly heldBy: string },
): Promise<boolean> {
  const { generationId, heldBy } = { generationId: null, heldBy: null, ...stands }
  const taken = await transaction.$executeRaw`
    INSERT INTO "IdempotencyKey" AS kept ("project", "key", "operation", "bodySha256", "generationId", "heldBy", "createdAt")
    VALUES (${project}, ${key}, ${operation}, ${bodySha256}, ${generationId}, ${heldBy}, ${new Date()})
    ON CONFLICT ("project", "key") DO UPDATE SET "operation" = excluded."operation", "bodySha256" = excluded."bodySha256",
      "generationId" = excluded."generationId", "heldBy" = excluded."heldBy", "answer" = NULL, "createdAt" = excluded."createdAt"
    WHERE kept."createdAt" <= ${expiry()}`
  return taken === 1
}

/**
 * What a key that was used before stands for.
 * @throws {GenerationError} `idempotency_conflict`
 */
export async function findKey(
  prisma: Pick<Transaction, 'idempotencyKey'>,
  { project, key, operation, bodySha256 }: Fingerprint,
): Promise<{ generationId: string | null; answer: Prisma.JsonValue } | undefined> {
  const where = { project_key: { project, key }, createdAt: { gt: expiry() } }
  const entry = await prisma.idempotencyKey.findUnique({ where })
  if (!entry) return undefined
  if (entry.operation !== operation) {
    throw new GenerationError(
      'idempotency_conflict',
      'this Idempotency-Key was used for another operation in the last 24 hours',
    )
  }
  if (entry.bodySha256 !== bodySha256) {
    throw new GenerationError(
      'idempotency_conflict',
      'this Idempotency-Key was used with another body in the last 24 hours',
    )
  }
  return entry
}

/** Calls that make no generation: their answer is kept itself. */
export class IdempotentCalls {
  readonly #storage: Storage
  readonly #running = new Map<string, Promise<unknown>>()

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async dropExpired(): Promise<void> {
    await this.#prisma.idempotencyKey.deleteMany({ where: { createdAt: { lte: expiry() } } })
  }

  /** Keys whose call was begun by a process that is gone, so that they can be sent again. */
  async forgetUnfinished(): Promise<void> {
    await this.#prisma.$executeRaw`
      DELETE FROM "IdempotencyKey" AS kept WHERE "answer" IS NULL AND "generationId" IS NULL
        AND ${this.#storage.presence.isGone(Prisma.sql`kept."heldBy"`)}`
  }

  /**
   * Its concurrent twins wait for the first; when that fails, the next of them tries.
   * @throws {GenerationError} `idempotency_conflict`
   */
  async once<T>(call: IdempotentCall, work: () => Promise<T>): Promise<{ answer: T; replayed: boolean }> {
    const fingerprint = fingerprintOf(call)
    const name = `${call.project} ${call.key}`
    for (;;) {
      const earlier = await findKey(this.#prisma, fingerprint)
      if (earlier && earlier.answer !== null) return { answer: unwrap(earlier.answer) as T, replayed: true }
      const running = this.#running.get(name)
      if (running) {
        await Promise.allSettled([running])
        continue
      }
      const first = this.#run(fingerprint, work)
      this.#running.set(name, first)
      try {
        const done = await first
        if (done) return { ...done, replayed: false }
      } finally {
        this.#running.delete(name)
      }
      await sleep(takenElsewhereMs)
    }
  }

  /** @returns undefined when the key was taken meanwhile, by another process or another operation */
  async #run<T>(fingerprint: Fingerprint, work: () => Promise<T>): Promise<{ answer: T } | undefined> {
    const { project, key } = fingerprint
    const { presence } = this.#storage
    const heldBy = await this.#prisma.$transaction(async (transaction) => {
      const id = await presence.require(transaction)
      // One that this process holds and is not at was claimed by a call whose outcome the database did not tell.
      const forgotten = { project, key, heldBy: id, answer: { equals: Prisma.DbNull } }
      await transaction.idempotencyKey.deleteMany({ where: forgotten })
      return (await claimKey(transaction, fingerprint, { heldBy: id })) ? id : undefined
    })
    if (heldBy === undefined) return undefined
    try {
      const answer = await work()
      await throughOutages(() =>
        this.#prisma.idempotencyKey.updateMany({
          where: { project, key, heldBy },
          data: { answer: wrap(answer), heldBy: null },
        }),
      )
      return { answer }
    } catch (error) {
      await this.#prisma.idempotencyKey.deleteMany({
        where: { project, key, heldBy, answer: { equals: Prisma.DbNull } },
      })
      throw error
    }
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}

/** In an object, since JSON's null is an answer too. */
const wrap = (answer: unknown): Prisma.InputJsonObject => ({ answer: answer as Prisma.InputJsonValue })
const unwrap = (kept: Prisma.JsonValue): unknown => (kept as { answer: unknown }).answer

const expiry = () => new Date(Date.now() - keptMs)

/** JSON with sorted keys: two bodies that mean the same have one hash. */
function canonicalJson(value: unknown): string {
  const sorted = (_: string, item: unknown): unknown =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item
  return JSON.stringify(value ?? null, sorted)
}
