/** The database server may be away for a while, as when it is restarted: what says so, and how to wait until it is back. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Prisma } from './client/client.ts'
import { StorageError } from './errors.ts'

/** Prisma's codes: not reachable, timed out, hung up, no connection free, transaction lost or not begun. */
const prismaCodes = new Set(['P1001', 'P1002', 'P1008', 'P1017', 'P2024', 'P2028', 'P2037'])
/** SQLSTATE: connection exceptions, too many connections, shutting down or starting, ended for idling in a transaction. */
const sqlStates = /^(?:08...|53300|57P0[1235]|25P0[34])$/
const socketCodes = /^E(?:CONNREFUSED|CONNRESET|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTFOUND|AI_AGAIN)$/
/** What the driver says without a code. */
const driverWords =
  /connection terminated|not queryable|timeout exceeded when trying to connect|server does not answer|closed the connection|connection (?:was )?closed|Can't reach database|client was closed/i

/**
 * Whether a call failed because the database could not be reached, or hung up; then nothing is known of its transaction. Also that this
 * process was not heard of meanwhile.
 */
export function isOutage(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof StorageError && error.code === 'declared_gone') return true
  if (error instanceof Prisma.PrismaClientKnownRequestError && prismaCodes.has(error.code)) return true
  const { code } = error as { code?: unknown }
  if (typeof code === 'string' && (sqlStates.test(code) || socketCodes.test(code))) return true
  if (/\bcode: `?"?(?:57P0[1235]|08...|53300|25P0[34])\b/i.test(error.message)) return true
  return driverWords.test(error.message) || (error.cause !== undefined && isOutage(error.cause))
}

/** The database ended one of two transactions that waited for each other; the other one can be made again. */
export const isDeadlock = (error: unknown): boolean =>
  error instanceof Prisma.PrismaClientKnownRequestError &&
  (error.code === 'P2034' || (error.code === 'P2010' && /\b40(?:P01|001)\b/.test(error.message)))

const [firstMs, longestMs] = [100, 2_000]

/**
 * Tries again until the database answers. The work must bear to be done twice: of an attempt that failed it is not known whether
 * it was committed.
 * @throws what is no outage; the outage once the signal is aborted
 */
export async function throughOutages<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (let waitMs = firstMs; ; waitMs = Math.min(2 * waitMs, longestMs)) {
    try {
      return await work()
    } catch (error) {
      if (!isOutage(error) || signal?.aborted) throw error
      await sleep(waitMs * (0.5 + Math.random()), undefined, signal && { signal }).catch(() => undefined)
      if (signal?.aborted) throw error
    }
  }
}
