/** Opens all that the service keeps: rows, jobs and picture bytes. */
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { BlobDirectory } from './blob-directory.ts'
import type { BlobStore } from './blobs.ts'
import { openEmbeddedDatabase, type Database } from './database.ts'
import { openInstallation, type Installation } from './installation.ts'
import { Presence, type ProcessKind } from './presence.ts'
import { openQueues, type Queue } from './queue.ts'
import { openServerDatabase } from './server-database.ts'

export interface Storage {
  readonly database: Database
  readonly installation: Installation
  readonly generationQueue: Queue
  readonly fineTuningQueue: Queue
  readonly blobs: BlobStore
  /** This process among those that work with the database. */
  readonly presence: Presence
  close(): Promise<void>
}

export type BlobOptions = Pick<Config, 'blobs' | 's3Endpoint' | 's3Region' | 's3PathStyle' | 's3Presign'>

export interface StorageOptions {
  readonly dataDir: string
  /** Without them pictures lie in the data folder. */
  readonly blobs?: BlobOptions
  /** Of a PostgreSQL server; without one the database lies in the data folder. */
  readonly databaseUrl?: string | undefined
  /** What this process is to the others; `serve` by default. */
  readonly kind?: ProcessKind | undefined
  /** Hears what upkeep in the background runs into; calls report their own errors. */
  readonly onError: (error: Error) => void
}

const queueNames = ['generation', 'fine_tuning'] as const

/** Makes the queues, where they are not made yet. */
export async function prepareQueues(database: Database, onError: (error: Error) => void): Promise<void> {
  const opened = await openQueues(database, queueNames, onError)
  await opened.close()
}

/**
 * @throws {StorageError} when the database is in use, damaged or out of reach, or its migrations do not apply, and when the
 *   storage of pictures cannot be used
 */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { dataDir, databaseUrl, kind = 'serve', onError } = options
  const database = databaseUrl
    ? await openServerDatabase({ url: databaseUrl, onError })
    : await openEmbeddedDatabase(dataDir)
  try {
    const installation = await openInstallation(database)
    const blobs = await openBlobs(dataDir, installation, options.blobs)
    const opened = await openQueues(database, queueNames, onError)
    const presence = await Presence.begin(database, kind, onError)
    return {
      database,
      installation,
      generationQueue: opened.queues.generation,
      fineTuningQueue: opened.queues.fine_tuning,
      blobs,
      presence,
      async close() {
        await presence.close()
        await opened.close()
        blobs.close()
        await database.close()
      },
    }
  } catch (error) {
    await database.close()
    throw error
  }
}

async function openBlobs(
  dataDir: string,
  installation: Installation,
  options: BlobOptions | undefined,
): Promise<BlobStore> {
  if (!options || options.blobs.kind === 'directory') return BlobDirectory.open(join(dataDir, 'blobs'))
  const { s3Endpoint, s3Region, s3PathStyle, s3Presign } = options
  const { S3Blobs } = await import('./s3-blobs.ts') // a fifth of a second that most starts need not take
  return S3Blobs.open({
    bucket: options.blobs.bucket,
    prefix: options.blobs.prefix,
    region: s3Region,
    endpoint: s3Endpoint === '' ? undefined : s3Endpoint,
    pathStyle: s3PathStyle === 'auto' ? s3Endpoint !== '' : s3PathStyle === 'true',
    presign: s3Presign === 'true',
    installation: installation.id,
  })
}
