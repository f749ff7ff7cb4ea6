/** Databases for tests: a new one on the run's PostgreSQL server, or whichever of the two the tests run on now. */
import { createConnection } from 'node:net'
import { text } from 'node:stream/consumers'
import { inject } from 'vitest'
import { preparedFolder } from '../storage/prepared-folder.ts'
import { temporaryFolder } from '../storage/folders.ts'

/** @returns the URL of a new, empty database */
export async function serverDatabase(): Promise<string> {
  const answer = JSON.parse(await text(createConnection(inject('postgresSocket')))) as
    { readonly url: string } | { readonly error: string }
  if ('error' in answer) throw new Error(answer.error)
  return answer.url
}

export interface StoragePlace {
  readonly dataDir: string
  readonly databaseUrl: string | undefined
}

/** A new place to keep things in, of the kind that this project of the tests is for. */
export async function storagePlace(): Promise<StoragePlace> {
  return inject('database') === 'server'
    ? { dataDir: temporaryFolder(), databaseUrl: await serverDatabase() }
    : { dataDir: await preparedFolder(), databaseUrl: undefined }
}
