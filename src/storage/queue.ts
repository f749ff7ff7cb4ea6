/**
 * The job queues: pg-boss in the same database, so that a row and its job commit together.
 *
 * A job says only that somebody should look at a row. What happened to the request stands in the row; therefore a job
 * exists as long as its row is not final, and is deleted in the transaction that makes it so.
 */
import { fromPrisma, PgBoss } from 'pg-boss'
import { notify, type Database, type Transaction } from './database.ts'

export interface Job {
  readonly id: string
  /** Waiting jobs are taken in the order of their turns, to the second; within one in the order of their coming. */
  readonly turnAt: Date
}

export interface Queue {
  /** Adds jobs and wakes the workers, when the transaction commits. */
  send(transaction: Transaction, jobs: readonly Job[]): Promise<void>
  /** Takes the next `limit` waiting jobs, returned in no order. They stay taken until they are removed or handed back. */
  fetch(transaction: Transaction, limit: number): Promise<string[]>
  /** Removes a job, waiting or taken: its row is final. */
  remove(transaction: Transaction, jobId: string): Promise<void>
  /** Puts a taken job back to its place, for whoever fetches next. */
  handBack(transaction: Transaction, jobId: string): Promise<void>
  /** Forgets every job, taken ones too. Only for a process that knows itself alone, as at an embedded start. */
  clear(): Promise<void>
  /** Calls `wake` whenever a job may have come. */
  onJob(wake: () => void): Promise<() => Promise<void>>
}

export interface Queues<Name extends string> {
  readonly queues: Readonly<Record<Name, Queue>>
  close(): Promise<void>
}

/** pg-boss's largest. What a process leaves that dies is freed by the rows, which know who holds them, and not by expiry. */
const expireInSeconds = 24 * 60 * 60 - 1
const retentionSeconds = 10 * 365 * 24 * 60 * 60
/** Handing back counts as a retry; the number of them is no reason to give a request up. */
const retryLimit = 1_000_000

/** pg-boss takes the highest priority first, a 32-bit integer: seconds before 2050, good from 1982 to 2118. */
const priorityOf = (turnAt: Date): number => Math.floor((Date.UTC(2050, 0) - turnAt.getTime()) / 1000)

/**
 * Starts the queues; `onError` hears what pg-boss's own upkeep runs into.
 * They are created here: on PGlite a send to a queue that pg-boss has not cached stalls inside a transaction.
 */
export async function openQueues<const Name extends string>(
  database: Database,
  names: readonly Name[],
  onError: (error: Error) => void,
): Promise<Queues<Name>> {
  const boss = new PgBoss({
    ...database.jobs,
    schedule: false,
    supervise: database.isShared,
    registerInstance: false,
  })
  boss.on('error', onError)
  await boss.start()
  for (const name of names) {
    if (!(await boss.getQueue(name)))
      await boss.createQueue(name, { expireInSeconds, retentionSeconds, retryLimit })
  }
  return {
    queues: Object.fromEntries(names.map((name) => [name, queueOf(boss, database, name)])) as Record<
      Name,
      Queue
    >,
    close: () => boss.stop({ close: false, graceful: false }),
  }
}

function queueOf(boss: PgBoss, database: Database, name: string): Queue {
  const channel = `atelier_${name}_job`
  return {
    async send(transaction, jobs) {
      if (jobs.length === 0) return
      const inserted = jobs.map(({ id, turnAt }) => ({ id, priority: priorityOf(turnAt) }))
      await boss.insert(name, inserted, { db: fromPrisma(transaction) })
      await notify(transaction, channel, '')
    },
    async fetch(transaction, limit) {
      const jobs = await boss.fetch(name, { batchSize: limit, db: fromPrisma(transaction) })
      return jobs.map(({ id }) => id)
    },
    async remove(transaction, jobId) {
      await boss.deleteJob(name, jobId, { db: fromPrisma(transaction) })
    },
    async handBack(transaction, jobId) {
      await boss.fail(name, jobId, null, { db: fromPrisma(transaction) })
      await notify(transaction, channel, jobId)
    },
    async clear() {
      await boss.deleteAllJobs(name)
    },
    onJob: (wake) => database.listen(channel, wake),
  }
}
