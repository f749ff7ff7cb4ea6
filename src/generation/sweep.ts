/**
 * Removes pictures that no row tells of and none ever will: what a process stored before it died, or could not delete.
 *
 * A blob names the attempt that made it, and an outcome is written only by the attempt that holds the row. So one is kept
 * while a row tells of it, and while its attempt is the last of a generation that is not final; after that nobody can come to
 * tell of it, and it does not matter who sweeps, or how often. Beside that, what is young is left alone.
 */
import type { Logger } from 'pino'
import type { BlobStore, StoredBlob } from '../storage/blobs.ts'
import type { Storage } from '../storage/storage.ts'
import type { Attempt } from './leases.ts'

export interface SweepOptions {
  readonly log: Logger
  /** What was stored since is left alone. */
  readonly safetyAgeMs: number
}

const sweptTogether = 500
const deletedAtOnce = 8

/** How a blob names the attempt that made it. */
export const blobOwner = ({ id, attempt }: Attempt): string => `${id}-${attempt}`

/** @returns how many were removed. A sweep that fails is logged, and the next one goes on. */
export async function sweepBlobs(
  { database, blobs }: Pick<Storage, 'database' | 'blobs'>,
  { log, safetyAgeMs }: SweepOptions,
): Promise<number> {
  const before = new Date(Date.now() - safetyAgeMs)
  let removed = 0
  const sweep = async (found: readonly StoredBlob[]) => {
    removed += await discardBlobs(await unneeded(database, found), blobs, log)
  }
  try {
    let found: StoredBlob[] = []
    for await (const blob of blobs.list()) {
      if (blob.storedAt > before) continue
      found.push(blob)
      if (found.length < sweptTogether) continue
      await sweep(found)
      found = []
    }
    await sweep(found)
    // Last: storage that lists blobs may not let this process list uploads.
    await blobs.removeUnfinished(before)
    if (removed > 0) log.info({ removed }, 'removed pictures that no row tells of')
  } catch (error) {
    log.error({ err: error, removed }, 'the sweep of pictures stopped early')
  }
  return removed
}

/** Deletes blobs that no row tells of any more. One that stays is found by a sweep. @returns how many went */
export async function discardBlobs(keys: readonly string[], blobs: BlobStore, log: Logger): Promise<number> {
  let removed = 0
  for (let start = 0; start < keys.length; start += deletedAtOnce) {
    const deletions = keys.slice(start, start + deletedAtOnce).map(async (blobKey) => {
      try {
        await blobs.delete(blobKey)
        removed += 1
      } catch (error) {
        log.warn({ err: error, blobKey }, 'cannot delete a picture; a sweep will')
      }
    })
    await Promise.all(deletions)
  }
  return removed
}

/** In one look, since a picture that is told of meanwhile belongs to an attempt that is over. */
async function unneeded(
  { prisma }: Storage['database'],
  found: readonly Pick<StoredBlob, 'key' | 'owner'>[],
): Promise<string[]> {
  if (found.length === 0) return []
  const entries = found.map(({ key, owner = null }) => ({ key, owner }))
  const rows = await prisma.$queryRaw<{ key: string }[]>`
    SELECT blob."key" FROM jsonb_to_recordset(${JSON.stringify(entries)}::jsonb) AS blob("key" text, "owner" text)
    WHERE NOT EXISTS (SELECT FROM "Image" WHERE "blobKey" = blob."key")
      AND NOT EXISTS (SELECT FROM "GenerationEvent" WHERE "blobKey" = blob."key")
      AND NOT EXISTS (
        SELECT FROM "Generation" WHERE "id" = split_part(blob."owner", '-', 1)
          AND "attempt"::text = split_part(blob."owner", '-', 2) AND "finishedAt" IS NULL)`
  return rows.map(({ key }) => key)
}
