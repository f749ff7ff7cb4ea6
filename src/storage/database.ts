/**
 * The database as the rest of the program sees it: Prisma for rows, a handle for the queue, and notifications.
 * Here that is PGlite, PostgreSQL within this process, in `<dataDir>/database`; `server-database.ts` gives a server by its URL
 * the same form.
 *
 * PGlite has one connection. A statement from outside an open transaction waits for its end, so code inside
 * `transaction` must use only the handle it is given: to await anything else of the database there never ends.
 */
import { existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { fromPglite, type BackendProfile, type Db } from 'pg-boss'
import { PrismaPGlite } from 'pglite-prisma-adapter'
import { Prisma, PrismaClient } from './client/client.ts'
import { makeEmptyDatabase } from './empty-database.ts'
import { StorageError } from './errors.ts'
import { lockFolder } from './lock.ts'
import { migrate, type MigrationReport } from './migrations.ts'

export { Prisma }
export type Transaction = Prisma.TransactionClient

export interface Database {
  readonly prisma: PrismaClient
  /** The same database as pg-boss wants it. */
  readonly jobs: { readonly db: Db; readonly backend: BackendProfile }
  /** Other processes may work with it too. */
  readonly isShared: boolean
  readonly migrations: MigrationReport
  /**
   * Calls back with the payload of every `notify` on this channel that was committed; returns how to stop. `onMissed` is
   * called when some may have been lost, so that one has to look for oneself.
   */
  listen(
    channel: string,
    onPayload: (payload: string) => void,
    onMissed?: () => void,
  ): Promise<() => Promise<void>>
  close(): Promise<void>
}

/** Sent when the transaction commits, and not when it rolls back. Payloads are ids, never data (8,000 bytes at most). */
export async function notify(
  transaction: Transaction,
  channel: string,
  ...payloads: readonly string[]
): Promise<void> {
  await transaction.$executeRaw`
    SELECT pg_notify(${channel}, payload) FROM jsonb_array_elements_text(${JSON.stringify(payloads)}::jsonb) AS payload`
}

/**
 * Transactions wait for PGlite's one connection rather than give up: with Prisma's default of 2 s a start that timed
 * out would still get its turn later, with nobody left to end it.
 */
const transactionOptions = { maxWait: 300_000, timeout: 60_000 }

/**
 * Locks the data folder, opens its database (creating it at first) and applies what migrations it lacks.
 *
 * @throws {StorageError} `database_held`, `database_damaged`, `migration_changed` or `migration_failed`
 */
export async function openEmbeddedDatabase(dataDir: string): Promise<Database> {
  const lock = lockFolder(dataDir)
  try {
    const folder = join(dataDir, 'database')
    if (!existsSync(folder)) await createDatabase(folder)
    const pglite = new PGlite({ dataDir: folder })
    try {
      const prisma = quotingNoValues(
        new PrismaClient({
          adapter: new PrismaPGlite(pglite),
          transactionOptions,
          errorFormat: 'minimal',
        }),
      )
      // Connecting is loading Prisma's query compiler, which needs nothing of the database and takes as long.
      await Promise.all([opened(pglite, folder), prisma.$connect()])
      const migrations = await migrate(pglite)
      return {
        prisma,
        jobs: { db: fromPglite(pglite), backend: 'pglite' },
        isShared: false,
        migrations,
        listen: async (channel, onPayload) => {
          const stop = await pglite.listen(channel, onPayload)
          return () => stop()
        },
        async close() {
          await prisma.$disconnect()
          await pglite.close()
          lock.release()
        },
      }
    } catch (error) {
      if (pglite.ready) await pglite.close()
      throw error
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

/**
 * Errors are logged, and prompts must not be. PostgreSQL's details of a refused row quote the row, and Prisma's text about
 * wrong arguments quotes all of them.
 */
export function quotingNoValues(prisma: PrismaClient): PrismaClient {
  const extended = prisma.$extends({
    query: {
      async $allOperations({ model, operation, args, query }) {
        try {
          return await query(args)
        } catch (error) {
          if (error instanceof Prisma.PrismaClientKnownRequestError) delete error.meta?.['driverAdapterError']
          if (!(error instanceof Prisma.PrismaClientValidationError)) throw error
          const lastLine = error.message.split('\n').at(-1)
          // oxlint-disable-next-line preserve-caught-error -- its text is what must not be told
          throw new TypeError(`${model ?? 'the database'}.${operation}: ${lastLine}`)
        }
      },
    },
  })
  return extended as unknown as PrismaClient // the same client: the extension adds nothing to it
}

/**
 * A folder under its final name is always a whole database: a new one is made beside it and renamed.
 * What a kill meanwhile leaves has the other name, holds no data, and is made anew.
 */
async function createDatabase(folder: string): Promise<void> {
  const unfinished = `${folder}.new`
  await rm(unfinished, { recursive: true, force: true })
  await makeEmptyDatabase(unfinished)
  await rename(unfinished, folder)
}

async function opened(pglite: PGlite, folder: string): Promise<void> {
  try {
    await pglite.waitReady
  } catch (error) {
    throw new StorageError(
      'database_damaged',
      `the database in ${folder} does not open (${error instanceof Error ? error.message : String(error)}); restore it from a backup, or move the folder away to start with an empty one`,
      { cause: error },
    )
  }
}
