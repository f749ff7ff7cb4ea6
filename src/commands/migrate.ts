/** `atelier migrate`: brings a PostgreSQL server to the point where the other commands start at once, and ends. */
import type { Config } from '../config.ts'
import { prepareQueues } from '../storage/storage.ts'
import { openServerDatabase } from '../storage/server-database.ts'
import { requireServer } from './services.ts'

/** @throws {StorageError} when the server is out of reach or too old, or a migration does not apply */
export async function migrate(config: Config): Promise<void> {
  requireServer(config, 'migrate')
  const onError = (error: Error) => console.error(error.message)
  const database = await openServerDatabase({ url: config.databaseUrl, onError })
  try {
    await prepareQueues(database, onError)
    const { applied, unknown } = database.migrations
    console.log(applied.length === 0 ? 'the database is up to date' : `applied ${applied.join(', ')}`)
    if (unknown.length > 0) console.log(`a newer version was here, and applied ${unknown.join(', ')}`)
  } finally {
    await database.close()
  }
}
