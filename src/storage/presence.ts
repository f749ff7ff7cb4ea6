/**
 * This process among those that work with the database. Each says every few seconds that it is there; one that is not heard of
 * is declared gone, by whoever notices first, and what it holds is taken up by others. That is a lease: who was declared gone
 * without having died, because it was stopped or cut off, finds out, gives up what it has in hand and goes on under a new id.
 *
 * Who has not been heard itself for as long declares nobody gone: when the database was away it was so for all, and each
 * gets its time to be heard again.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { notify, Prisma, type Database, type Transaction } from './database.ts'
import { StorageError } from './errors.ts'
import { oneAtATime, type Repeatedly } from './one-at-a-time.ts'
import { isOutage } from './outage.ts'

export type ProcessKind = 'serve' | 'api' | 'worker'

/** Told when a process has come, gone, or changed what it serves; the payload is its id. */
export const processChannel = 'atelier_process'

const heardEveryMs = 2_000
/** Silence after which a process is taken to be gone. */
export const leaseMs = 10_000
const lookEveryMs = 1_000
/** Between two times of being heard, beyond which something is the matter here or with the database. */
const steadyMs = 5_000
const mostWorkers = 1_000
const rememberGoneMs = 24 * 60 * 60 * 1000

export interface WorkerRecord {
  readonly host: string
  readonly serves: Prisma.JsonValue
  readonly isGone: boolean
}

export class Presence {
  readonly #database: Database
  readonly #kind: ProcessKind
  readonly #onGone = new Set<() => void>()
  readonly #onOthersGone = new Set<() => void>()
  readonly #timers: NodeJS.Timeout[] = []
  #id: string
  #serves: Prisma.InputJsonValue | undefined
  #heardSinceMs = performance.now()
  #heardAtMs = performance.now()
  readonly #telling: Repeatedly
  readonly #looking: Repeatedly

  private constructor(database: Database, kind: ProcessKind, onError: (error: Error) => void) {
    this.#database = database
    this.#kind = kind
    const report = (error: unknown) => onError(error as Error)
    this.#telling = oneAtATime(() => this.#tell(), report)
    this.#looking = oneAtATime(() => this.#look(), report)
    this.#id = newId(kind)
  }

  static async begin(
    database: Database,
    kind: ProcessKind,
    onError: (error: Error) => void,
  ): Promise<Presence> {
    const presence = new Presence(database, kind, onError)
    await presence.#register()
    if (database.isShared) {
      presence.#timers.push(
        setInterval(presence.#telling.begin, heardEveryMs),
        setInterval(presence.#looking.begin, lookEveryMs),
      )
    }
    return presence
  }

  /** Under which it holds what it holds. It changes when the process was declared gone. */
  get id(): string {
    return this.#id
  }

  /** `lose` is called when what this process holds was given to others. @returns how to stop */
  onGone(lose: () => void): () => void {
    this.#onGone.add(lose)
    return () => this.#onGone.delete(lose)
  }

  /** `takeUp` is called every second, since there may be something that others have left. @returns how to stop */
  onOthersGone(takeUp: () => void): () => void {
    this.#onOthersGone.add(takeUp)
    return () => this.#onOthersGone.delete(takeUp)
  }

  /** Tells the others what this process serves. @throws {StorageError} `declared_gone` */
  async publish(serves: Prisma.InputJsonValue): Promise<void> {
    this.#serves = serves
    await this.#database.prisma.$transaction(async (transaction) => {
      const id = await this.require(transaction)
      await transaction.process.update({ where: { id }, data: { serves } })
      await notify(transaction, processChannel, id)
    })
  }

  /**
   * To be called by a transaction that takes something for this process: as long as that lasts it cannot be declared gone.
   * @throws {StorageError} `declared_gone`
   */
  async require(transaction: Transaction): Promise<string> {
    const id = this.#id
    const rows = await transaction.$queryRaw<unknown[]>`
      SELECT 1 FROM "Process" WHERE "id" = ${id} AND "goneAt" IS NULL FOR KEY SHARE`
    if (rows.length === 0)
      throw new StorageError('declared_gone', 'this process was not heard of for too long; it begins anew')
    return id
  }

  /**
   * SQL: whether who holds something is gone. At the start of the only process of a database everybody is, whoever this process
   * itself was before included.
   */
  isGone(heldBy: Prisma.Sql): Prisma.Sql {
    if (!this.#database.isShared) return Prisma.sql`TRUE`
    return Prisma.sql`NOT EXISTS (SELECT 1 FROM "Process" WHERE "Process"."id" = ${heldBy} AND "goneAt" IS NULL)`
  }

  /** How many processes take from the queues. */
  countWorkers(): Promise<number> {
    return this.#database.prisma.process.count({ where: { goneAt: null, kind: { not: 'api' } } })
  }

  /** The processes that take from the queues; where there is none, the last one that did. */
  async workers(): Promise<WorkerRecord[]> {
    const rows = await this.#database.prisma.process.findMany({ ...thoseThatServe, take: mostWorkers })
    const told = rows.map(({ host, serves, goneAt }) => ({ host, serves, isGone: goneAt !== null }))
    const there = told.filter(({ isGone }) => !isGone)
    return there.length > 0 ? there : told.slice(0, 1)
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await Promise.all([this.#telling.idle(), this.#looking.idle()])
    try {
      await this.#database.prisma.$transaction(async (transaction) => {
        await transaction.process.updateMany({ where: { id: this.#id }, data: { goneAt: new Date() } })
        await notify(transaction, processChannel, this.#id)
      })
    } catch (error) {
      if (!isOutage(error)) throw error // else the others take its silence for it
    }
  }

  async #register(): Promise<void> {
    const data = { id: this.#id, kind: this.#kind, host: hostname(), pid: process.pid }
    await this.#database.prisma.$transaction(async (transaction) => {
      if (!this.#database.isShared)
        await transaction.process.updateMany({ where: { goneAt: null }, data: { goneAt: new Date() } })
      await transaction.process.create({ data: { ...data, ...(this.#serves && { serves: this.#serves }) } })
      const last = await transaction.process.findFirst({ ...thoseThatServe, select: { id: true } })
      await transaction.process.deleteMany({
        where: { goneAt: { lt: new Date(Date.now() - rememberGoneMs) }, id: { not: last?.id ?? '' } },
      })
      await notify(transaction, processChannel, this.#id)
    })
  }

  async #tell(): Promise<void> {
    const beganAtMs = performance.now()
    const heard = await this.#database.prisma.$executeRaw`
      UPDATE "Process" SET "heardOfAt" = clock_timestamp() WHERE "id" = ${this.#id} AND "goneAt" IS NULL`
    if (beganAtMs - this.#heardAtMs >= steadyMs) this.#heardSinceMs = beganAtMs
    this.#heardAtMs = beganAtMs
    if (heard > 0) return
    this.#id = newId(this.#kind)
    this.#heardSinceMs = beganAtMs
    for (const lose of this.#onGone) lose()
    await this.#register()
  }

  async #look(): Promise<void> {
    const isHeard = performance.now() - this.#heardAtMs < steadyMs
    if (isHeard && performance.now() - this.#heardSinceMs >= leaseMs) await this.#declareGone()
    for (const takeUp of this.#onOthersGone) takeUp()
  }

  async #declareGone(): Promise<void> {
    await this.#database.prisma.$executeRaw`
      WITH gone AS (
        UPDATE "Process" SET "goneAt" = clock_timestamp()
        WHERE "id" IN (
          SELECT "id" FROM "Process" WHERE "goneAt" IS NULL
            AND "heardOfAt" < clock_timestamp() - ${leaseMs} * interval '1 millisecond'
          FOR UPDATE SKIP LOCKED)
        RETURNING "id")
      SELECT pg_notify(${processChannel}, "id") FROM gone`
  }
}

/** The newest first. */
const thoseThatServe = {
  where: { kind: { not: 'api' }, serves: { not: Prisma.DbNull } },
  orderBy: { startedAt: 'desc' },
} as const

const newId = (kind: ProcessKind): string => `${kind}_${randomUUID()}`
