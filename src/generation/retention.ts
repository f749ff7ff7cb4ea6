/** Erases generations by their age: row, prompt, events and pictures. */
import type { Logger } from 'pino'
import { notify, type Transaction } from '../storage/database.ts'
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
  let erased = 0
  for (;;) {
    const before = new Date(Date.now() - retentionMs)
    const batch = await database.prisma.$transaction((transaction) => eraseSome(transaction, before))
    await discardBlobs(batch.blobKeys, blobs, log)
    erased += batch.ids.length
    if (batch.ids.length < erasedTogether) break
  }
  if (erased > 0) log.info({ erased }, 'erased generations that have reached their age')
  return erased
}

async function eraseSome(
  transaction: Transaction,
  before: Date,
): Promise<{ ids: readonly string[]; blobKeys: readonly string[] }> {
  const expired = await transaction.$queryRaw<{ id: string }[]>`
    SELECT "id" FROM "Generation" WHERE "finishedAt" < ${before}
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
