/**
 * The table of events. A generation counts its events in its own row, and that row is locked while one is added: numbers
 * have no gaps, and who has read up to one has missed none before it.
 */
import { ownedBy, type Whose } from '../access/project.ts'
import type { Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import type { GenerationEvent as EventRow } from '../storage/client/client.ts'
import type { EventDetails, FinalEventDetails, GenerationEvent, PreviewEvent } from './events.ts'
import type { SettledGeneration } from './generation.ts'

/** Told when a generation has new events, or is gone; the payload is its id. */
export const eventChannel = 'atelier_generation_event'

const keptAfterEndMs = 60 * 60 * 1000
const prunedTogether = 100
/** What one look at the table gives at most. */
export const eventsAtOnce = 500

export interface NewEvents {
  readonly generationId: string
  /** The generation's count of events, these included. */
  readonly eventCount: number
  readonly events: readonly EventDetails[]
}

/**
 * Adds events that the rows' `eventCount` already counts, in the same transaction, and tells of them: also on further channels,
 * in one statement, since PGlite's time goes by their number.
 */
export async function addEvents(
  transaction: Transaction,
  added: readonly NewEvents[],
  channels: readonly string[] = [eventChannel],
): Promise<void> {
  const rows = added.flatMap(({ generationId, eventCount, events }) =>
    events.map(({ type, ...details }, index) => {
      const { blobKey = null, ...data } = details as { blobKey?: string }
      return { generationId, sequence: eventCount - events.length + index + 1, type, data, blobKey }
    }),
  )
  if (rows.length === 0) return
  const told = added.flatMap(({ generationId }) => channels.map((channel) => ({ channel, generationId })))
  await transaction.$queryRaw`
    WITH "added" AS (
      INSERT INTO "GenerationEvent" ("generationId", "sequence", "type", "data", "blobKey")
      SELECT "generationId", "sequence", "type", "data", "blobKey" FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
        AS rows("generationId" text, "sequence" int, "type" text, "data" jsonb, "blobKey" text)
    )
    SELECT pg_notify("channel", "generationId")::text
    FROM jsonb_to_recordset(${JSON.stringify(told)}::jsonb) AS told("channel" text, "generationId" text)`
}

function toEvent({ sequence, createdAt, type, data, blobKey }: EventRow): GenerationEvent {
  const details = { type, ...(data as object), ...(blobKey === null ? {} : { blobKey }) } as EventDetails
  return { id: sequence, at: createdAt, ...details }
}

/** The last event as the row alone tells it, for when the events are gone. */
export function finalEventOf(generation: SettledGeneration, eventCount: number): GenerationEvent {
  return { id: eventCount, at: generation.finishedAt, ...finalDetails(generation) }
}

function finalDetails(generation: SettledGeneration): FinalEventDetails {
  switch (generation.state) {
    case 'succeeded':
      return { type: 'succeeded' }
    case 'failed':
      return { type: 'failed', error: generation.error }
    case 'cancelled':
      return { type: 'cancelled' }
  }
}

export class EventLog {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /** The next events after one, in order; not all of them when there are many. */
  async after(generationId: string, sequence: number): Promise<GenerationEvent[]> {
    const rows = await this.#storage.database.prisma.generationEvent.findMany({
      where: { generationId, sequence: { gt: sequence } },
      orderBy: { sequence: 'asc' },
      take: eventsAtOnce,
    })
    return rows.map(toEvent)
  }

  async preview(whose: Whose, generationId: string, sequence: number): Promise<PreviewEvent | undefined> {
    const row = await this.#storage.database.prisma.generationEvent.findUnique({
      where: { generationId_sequence: { generationId, sequence }, generation: ownedBy(whose) },
    })
    const event = row && toEvent(row)
    return event?.type === 'preview' ? event : undefined
  }

  /** Deletes the previews of one generation; its events stay, and tell of pictures that are no more. */
  async dropPreviews(generationId: string): Promise<void> {
    const previews = await this.#storage.database.prisma.generationEvent.findMany({
      where: { generationId, blobKey: { not: null } },
      select: { blobKey: true },
    })
    for (const { blobKey } of previews) if (blobKey !== null) await this.#storage.blobs.delete(blobKey)
  }

  /** Drops the events of generations that ended an hour ago, and their previews. */
  async prune(): Promise<void> {
    const { prisma } = this.#storage.database
    const before = new Date(Date.now() - keptAfterEndMs)
    for (;;) {
      const old = await prisma.generationEvent.groupBy({
        by: 'generationId',
        where: { createdAt: { lt: before }, generation: { finishedAt: { lt: before } } },
        orderBy: { generationId: 'asc' },
        take: prunedTogether,
      })
      if (old.length === 0) return
      const where = { generationId: { in: old.map(({ generationId }) => generationId) } }
      const previews = await prisma.generationEvent.findMany({
        where: { ...where, blobKey: { not: null } },
        select: { blobKey: true },
      })
      await prisma.generationEvent.deleteMany({ where })
      for (const { blobKey } of previews) if (blobKey !== null) await this.#storage.blobs.delete(blobKey)
    }
  }
}
