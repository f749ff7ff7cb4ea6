/**
 * PostgreSQL on a server, by URL: what many processes share. The schema, the migrations and the queue are those of the embedded
 * database; whoever comes first applies what migrations are missing, and the others wait for it.
 */
import { Socket } from 'node:net'
import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import { PrismaClient } from './client/client.ts'
import { quotingNoValues, type Database } from './database.ts'
import { StorageError } from './errors.ts'
import { migrate, type MigrationReport } from './migrations.ts'
import { answerWithinMs, Notifications } from './notifications.ts'

const oldestVersion = 15
const maxConnections = 10
const connectTimeoutMs = 15_000
/** Of a burst of requests most wait for one of the connections. */
const freeConnectionWithinMs = 20_000
/** The server gives a statement up before the client takes the server to be gone. */
const statementTimeoutMs = 25_000
const silenceMs = 30_000
/** So that a process which is stopped in the middle of a transaction does not keep its rows from the others. */
const idleInTransactionMs = 10_000

/** Prisma's adapter drops the offset of what it reads, so sessions must be at 0. */
const inUtc = '-c TimeZone=UTC'

const transactionOptions = { maxWait: freeConnectionWithinMs, timeout: 30_000 }

export interface ServerOptions {
  readonly url: string
  /** Hears of connections that broke; whoever was using one hears of it too. */
  readonly onError: (error: Error) => void
}

/** @throws {StorageError} `database_unreachable`, `database_too_old`, `migration_changed` or `migration_failed` */
export async function openServerDatabase({ url, onError }: ServerOptions): Promise<Database> {
  const migrations = await migrateServer(url)
  const pool = new pg.Pool({
    ...connectionTo(url),
    max: maxConnections,
    connectionTimeoutMillis: freeConnectionWithinMs,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionMs,
    stream: socketThatNoticesSilence,
  })
  pool.on('error', onError)
  const notifications = await Notifications.open(
    () => new pg.Client({ ...connectionTo(url), query_timeout: answerWithinMs }),
    onError,
  )
  const prisma = quotingNoValues(
    new PrismaClient({
      adapter: new PrismaPg(pool, { onConnectionError: onError }),
      transactionOptions,
      errorFormat: 'minimal',
    }),
  )
  await prisma.$connect()
  return {
    prisma,
    jobs: { db: { executeSql: (text, values) => pool.query(text, values) }, backend: 'postgres' },
    isShared: true,
    migrations,
    listen: (channel, onPayload, onMissed) => notifications.listen(channel, onPayload, onMissed),
    async close() {
      await prisma.$disconnect()
      await notifications.close()
      await pool.end()
    },
  }
}

/** @throws {StorageError} as `openServerDatabase` */
export async function migrateServer(url: string): Promise<MigrationReport> {
  const client = new pg.Client(connectionTo(url))
  client.on('error', () => undefined) // whoever awaits a statement is told
  try {
    await connect(client, url)
    await refuseOldServer(client, url)
    return await migrate({
      query: (text, values) => client.query(text, values),
      exec: (script) => client.query(script),
    })
  } finally {
    await client.end()
  }
}

function connectionTo(url: string): pg.ClientConfig {
  const withOptions = new URL(url)
  const { searchParams } = withOptions
  searchParams.set('options', [searchParams.get('options'), inUtc].filter(Boolean).join(' '))
  return {
    connectionString: withOptions.href,
    application_name: 'atelier',
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
  }
}

/** A server behind a broken line neither answers nor hangs up. */
function socketThatNoticesSilence(): Socket {
  const socket = new Socket()
  socket.setTimeout(silenceMs, () => socket.destroy(new Error('the database server does not answer')))
  return socket
}

async function connect(client: pg.Client, url: string): Promise<void> {
  try {
    await client.connect()
  } catch (error) {
    throw new StorageError(
      'database_unreachable',
      `ATELIER_DATABASE_URL: expected a PostgreSQL server that lets this user in, got none at ${placeOf(url)} (${reasonOf(error)})`,
      { cause: error },
    )
  }
}

async function refuseOldServer(client: pg.Client, url: string): Promise<void> {
  const { rows } = await client.query<{ version: string; number: string }>(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number`,
  )
  const [{ version, number } = { version: 'unknown', number: '0' }] = rows
  if (Number(number) >= oldestVersion * 10_000) return
  throw new StorageError(
    'database_too_old',
    `ATELIER_DATABASE_URL: expected PostgreSQL ${oldestVersion} or later, got ${version} at ${placeOf(url)}`,
  )
}

/** The URL without what must not be told. */
function placeOf(url: string): string {
  const { host, pathname } = new URL(url)
  return `${host}${pathname}`
}

/** Of several addresses that were tried, the first one's. */
function reasonOf(error: unknown): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error ? first.message : String(first)
}
