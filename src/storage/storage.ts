/** Opens all that the service keeps: rows, jobs and picture bytes, under one data folder and one lock. */
import { join } from 'node:path'
import { BlobDirectory, type BlobStore } from './blobs.ts'
import { openEmbeddedDatabase, type Database } from './database.ts'
import { openQueues, type Queue } from './queue.ts'

export interface Storage {
  readonly database: Database
  readonly generationQueue: Queue
  readonly fineTuningQueue: Queue
  readonly blobs: BlobStore
  close(): Promise<void>
}

export interface StorageOptions {
  readonly dataDir: string
  /** Hears what upkeep in the background runs into; calls report their own errors. */
  readonly onError: (error: Error) => void
}

/** @throws {StorageError} when the folder is in use, damaged, or its migrations do not apply */
export async function openStorage({ dataDir, onError }: StorageOptions): Promise<Storage> {
  const database = await openEmbeddedDatabase(dataDir)
  try {
    const [opened, blobs] = await Promise.all([
      openQueues(database, ['generation', 'fine_tuning'], onError),
      BlobDirectory.open(join(dataDir, 'blobs')),
    ])
    return {
      database,
      generationQueue: opened.queues.generation,
      fineTuningQueue: opened.queues.fine_tuning,
      blobs,
      async close() {
        await opened.close()
        await database.close()
      },
    }
  } catch (error) {
    await database.close()
    throw error
  }
}
