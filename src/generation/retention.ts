/** Erases generations by their age, or all of a project up to a time: row, prompt, events and pictures. */
import type { Logger } from 'pino'
import type { Project } from '../access/project.ts'
import { notify, Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { eventChannel } from './event-log.ts'
import { discardBlobs } from './sweep.ts'

const erasedTogether = 100

export interface RetentionOptions {
  /** Since its end; Infinity keeps everything. */
  readonly retentionMs: number
  readonly log: Logger
}

/** Processes that do it side by side share the work. @returns how many were erased */
export async function eraseExpired(
  { database, blobs }: Pick<Storage, 'database' | 'blobs'>,
  { retentionMs, log }: RetentionOptions,
): Promise<number> {
  if (retentionMs === Infinity) return 0
  const before = new Date(Date.now() - retentionMs)
  const erased = await eraseAll(Prisma.sql`"finishedAt" < ${before}`, { database, blobs }, log)
  if (erased > 0) log.info({ erased }, 'erased generations that have reached their age')
  return erased
}

/** What has not ended stays. @returns how many were erased */
export function eraseCreatedBefore(
  storage: Pick<Storage, 'database' | 'blobs'>,
  { project, before, log }: { readonly project: Project; readonly before: Date; readonly log: Logger },
): Promise<number> {
  const which = Prisma.sql`"project" = ${project} AND "createdAt" < ${before} AND "finishedAt" IS NOT NULL`
  return eraseAll(which, storage, log)
}

async function eraseAll(
  which: Prisma.Sql,
  { database, blobs }: Pick<Storage, 'database' | 'blobs'>,
  log: Logger,
): Promise<number> {
  let erased = 0
  for (;;) {
    const batch = await database.prisma.$transaction((transaction) => eraseSome(transaction, which))
    await discardBlobs(batch.blobKeys, blobs, log)
    erased += batch.ids.length
    if (batch.ids.length < erasedTogether) return erased
  }
}

async function eraseSome(
  transaction: Transaction,
  which: Prisma.Sql,
): Promise<{ ids: readonly string[]; blobKeys: readonly string[] }> {
  const expired = await transaction.$queryRaw<{ id: string }[]>`
    SELECT "id" FROM "Generation" WHERE ${which}
    ORDER BY "finishedAt" LIMIT ${erasedTogether} FOR UPDATE SKIP LOCKED`
  if (expired.length === 0) return { ids: [], blobKeys: [] }
  const ids = expired.map(({ id }) => id)
  const where = { generationId: { in: ids } }
  const select = { blobKey: true }
  const images = await transaction.image.findMany({ where, select })
  const previews = await transaction.generationEvent.findMany({
    where: { ...where, blobKey: { not: null } },
    select,
  })
  await transaction.generation.deleteMany({ where: { id: { in: ids } } })
  await notify(transaction, eventChannel, ...ids)
  return { ids, blobKeys: [...images, ...previews].flatMap(({ blobKey }) => blobKey ?? []) }
}
