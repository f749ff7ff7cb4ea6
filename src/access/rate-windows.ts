/**
 * How many requests a key or an address may send in a minute, over all processes that share a database.
 *
 * A subject's window begins with its first request. The database counts, and hands its count to processes in blocks, so that most
 * requests cost no write; what a block has left at the end of the window is lost. A block is a fortieth of the limit, or as many as
 * wait for it here: so at most that much is held back by a process to which no more requests come.
 */
import { LRUCache } from 'lru-cache'
import type { Logger } from 'pino'
import type { Database } from '../storage/database.ts'

export interface Allowance {
  readonly granted: boolean
  /** As far as this process knows. */
  readonly remaining: number
  /** To the end of the window. */
  readonly resetMs: number
}

export interface RateWindows {
  take(subject: string, limit: number): Promise<Allowance>
  /** Whether this process knows that nothing is left. Asks nobody. */
  isSpent(subject: string): boolean
  close(): void
}

export const windowMs = 60_000
const blocksPerWindow = 40
const mostWindows = 20_000
const pruneEveryMs = 300_000

interface Window {
  readonly endsMs: number
  /** Of those counted already, for requests to come here. */
  held: number
  /** Not counted yet. */
  readonly left: number
}

export function openRateWindows(
  { prisma }: Pick<Database, 'prisma'>,
  log: Pick<Logger, 'warn'>,
): RateWindows {
  const windows = new LRUCache<string, Window>({ max: mostWindows })
  const leases = new Map<string, Promise<void>>()
  /** Requests that wait for a lease, by subject. */
  const waiting = new Map<string, number>()

  const current = (subject: string): Window | undefined => {
    const window = windows.get(subject)
    return window && performance.now() < window.endsMs ? window : undefined
  }

  async function lease(subject: string, limit: number): Promise<void> {
    const block = Math.min(limit, Math.max(Math.ceil(limit / blocksPerWindow), waiting.get(subject) ?? 1))
    const atMs = performance.now()
    const [row] = await prisma.$queryRaw<[{ granted: number; used: number; leftMs: number }]>`
      INSERT INTO "RateWindow" AS own ("subject", "startedAt", "used", "granted")
      VALUES (${subject}, clock_timestamp(), ${block}::int, ${block}::int)
      ON CONFLICT ("subject") DO UPDATE SET
        ("startedAt", "used", "granted") = (
          SELECT CASE WHEN is_over THEN excluded."startedAt" ELSE own."startedAt" END,
            CASE WHEN is_over THEN 0 ELSE own."used" END + grant_now, grant_now
          FROM (SELECT is_over, greatest(0, least(excluded."used", ${limit}::int - CASE WHEN is_over THEN 0 ELSE own."used" END)) AS grant_now
            FROM (SELECT excluded."startedAt" - own."startedAt" >= ${`${windowMs} milliseconds`}::interval AS is_over) AS age) AS granting)
      RETURNING "granted", "used", (extract(epoch FROM "startedAt" - clock_timestamp()) * 1000 + ${windowMs})::float AS "leftMs"`
    windows.set(subject, {
      endsMs: atMs + row.leftMs,
      held: row.granted,
      left: Math.max(0, limit - row.used),
    })
  }

  /** One at a time for each subject: who comes meanwhile waits for it, and is counted for the next. */
  async function replenish(subject: string, limit: number): Promise<void> {
    waiting.set(subject, (waiting.get(subject) ?? 0) + 1)
    try {
      const leasing = leases.get(subject) ?? lease(subject, limit).finally(() => leases.delete(subject))
      leases.set(subject, leasing)
      await leasing
    } finally {
      const others = (waiting.get(subject) ?? 1) - 1
      if (others > 0) waiting.set(subject, others)
      else waiting.delete(subject)
    }
  }

  const prune = setInterval(() => {
    const before = new Date(Date.now() - pruneEveryMs)
    prisma.rateWindow
      .deleteMany({ where: { startedAt: { lt: before } } })
      .catch((error: unknown) => log.warn({ err: error }, 'cannot drop old windows; will try again'))
  }, pruneEveryMs)
  prune.unref()

  return {
    async take(subject, limit) {
      for (;;) {
        const window = current(subject)
        const resetMs = window ? window.endsMs - performance.now() : 0
        if (window && window.held > 0) {
          window.held -= 1
          return { granted: true, remaining: window.held + window.left, resetMs }
        }
        if (window && window.left === 0) return { granted: false, remaining: 0, resetMs }
        await replenish(subject, limit)
      }
    },
    isSpent(subject) {
      const window = current(subject)
      return window !== undefined && window.held === 0 && window.left === 0
    },
    close: () => clearInterval(prune),
  }
}
