/**
 * Applies prisma/migrations in order, each once, in a transaction of its own, and keeps Prisma's own book of them
 * (`_prisma_migrations`), so that `prisma migrate deploy` and this runner agree on what is applied. Prisma's command
 * itself needs an engine that is downloaded at run time; this needs none.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StorageError } from './errors.ts'

/** One connection of a database: what the lock and the transactions below need. */
export interface SqlSession {
  /** One statement, with parameters. */
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
  /** A script of several statements. */
  exec(script: string): Promise<unknown>
}

export interface MigrationReport {
  readonly applied: readonly string[]
  /** In the database's book, but not in the folder: a newer version of the program was here. */
  readonly unknown: readonly string[]
}

export const migrationsFolder = fileURLToPath(new URL('../../prisma/migrations', import.meta.url))

/** Prisma's own lock number, so that its command and this runner wait for each other. */
const advisoryLock = 72_707_369

/** As Prisma's schema engine creates it. */
const book = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
  id VARCHAR(36) PRIMARY KEY NOT NULL,
  checksum VARCHAR(64) NOT NULL,
  finished_at TIMESTAMPTZ,
  migration_name VARCHAR(255) NOT NULL,
  logs TEXT,
  rolled_back_at TIMESTAMPTZ,
  started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  applied_steps_count INTEGER NOT NULL DEFAULT 0
)`

interface BookEntry {
  readonly migration_name: string
  readonly checksum: string
  readonly finished: boolean
}

/**
 * @throws {StorageError} `migration_changed` when an applied migration's file was edited since,
 *   `migration_failed` when one does not apply; nothing of a failed migration stays
 */
export async function migrate(
  session: SqlSession,
  folder: string = migrationsFolder,
): Promise<MigrationReport> {
  const migrations = await readMigrations(folder)
  await session.query('SELECT pg_advisory_lock($1)', [advisoryLock])
  try {
    await session.exec(book)
    const entries = await readBook(session)
    const applied: string[] = []
    for (const migration of migrations) {
      const entry = entries.get(migration.name)
      if (entry) check(migration, entry)
      else {
        await apply(session, migration)
        applied.push(migration.name)
      }
    }
    const known = new Set(migrations.map(({ name }) => name))
    return { applied, unknown: [...entries.keys()].filter((name) => !known.has(name)) }
  } finally {
    await session.query('SELECT pg_advisory_unlock($1)', [advisoryLock])
  }
}

interface Migration {
  readonly name: string
  readonly script: string
  readonly checksum: string
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  return Promise.all(
    names.sort().map(async (name) => {
      const script = await readFile(join(folder, name, 'migration.sql'), 'utf8')
      return { name, script, checksum: createHash('sha256').update(script).digest('hex') }
    }),
  )
}

async function readBook(session: SqlSession): Promise<Map<string, BookEntry>> {
  const { rows } = await session.query(
    `SELECT migration_name, checksum, finished_at IS NOT NULL AS finished
     FROM _prisma_migrations WHERE rolled_back_at IS NULL ORDER BY started_at`,
  )
  return new Map((rows as BookEntry[]).map((entry) => [entry.migration_name, entry]))
}

function check(migration: Migration, entry: BookEntry): void {
  if (!entry.finished) {
    throw new StorageError(
      'migration_failed',
      `migration ${migration.name} was begun by another tool and never finished; resolve it with "prisma migrate resolve"`,
    )
  }
  if (entry.checksum !== migration.checksum) {
    throw new StorageError(
      'migration_changed',
      `migration ${migration.name} was changed after it was applied: its file has sha256 ${migration.checksum}, the database expects ${entry.checksum}; restore the file and put changes into a new migration`,
    )
  }
}

async function apply(session: SqlSession, { name, script, checksum }: Migration): Promise<void> {
  await session.exec('BEGIN')
  try {
    await session.exec(script)
    await session.query(
      `INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
       VALUES ($1, $2, $3, now(), clock_timestamp(), 1)`,
      [randomUUID(), checksum, name],
    )
    await session.exec('COMMIT')
  } catch (error) {
    await session.exec('ROLLBACK')
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('migration_failed', `migration ${name} does not apply: ${reason}`, {
      cause: error,
    })
  }
}
