/**
 * What is to be told to whom: one row for each webhook of each generation that has ended, written in the transaction that
 * ends it. The table is the queue: a delivery is due at a time, and whoever claims it puts that time off, so that one that a
 * dead process had in hand is due again by itself. Times are the database's.
 */
import { randomBytes } from 'node:crypto'
import type { Project } from '../access/project.ts'
import { notify, type Transaction } from '../storage/database.ts'
import type { WebhookDelivery } from '../storage/client/client.ts'
import type { Storage } from '../storage/storage.ts'
import { WebhookError } from './errors.ts'

export type { WebhookDelivery } from '../storage/client/client.ts'

export const webhookEvents = ['generation.succeeded', 'generation.failed', 'generation.cancelled'] as const
export type WebhookEvent = (typeof webhookEvents)[number]
export type DeliveryState = WebhookDelivery['state']

/** Where a generation's end is told. */
export interface Webhook {
  readonly url: string
  readonly events: readonly WebhookEvent[]
}

/** Told when there is a delivery to be made. */
export const dueChannel = 'atelier_webhook_due'

/** For so long it is tried. */
const triedForMs = 3 * 24 * 60 * 60 * 1000
const firstRetryMs = 5_000
const longestRetryMs = 6 * 60 * 60 * 1000
/** Longer than a delivery may take, so that nobody else begins with it meanwhile. */
const leaseMs = 60_000

/** Does nothing for a generation without a webhook, or one that is not asked to hear of this. */
export async function addDelivery(
  transaction: Transaction,
  generationId: string,
  event: WebhookEvent,
): Promise<void> {
  const added = await transaction.$executeRaw`
    INSERT INTO "WebhookDelivery" ("id", "generationId", "event", "url", "dueAt", "giveUpAt")
    SELECT ${`msg_${randomBytes(16).toString('hex')}`}, "id", ${event}, "webhookUrl", now(),
      now() + ${triedForMs}::double precision * interval '1 millisecond'
    FROM "Generation" WHERE "id" = ${generationId} AND "webhookUrl" IS NOT NULL AND ${event} = ANY("webhookEvents")`
  if (added > 0) await notify(transaction, dueChannel, generationId)
}

/** Some of those that are due. Each counts as one more attempt. */
export async function claimDue(
  { database }: Pick<Storage, 'database'>,
  limit: number,
): Promise<WebhookDelivery[]> {
  return database.prisma.$queryRaw<WebhookDelivery[]>`
    UPDATE "WebhookDelivery" SET "attempts" = "attempts" + 1,
      "dueAt" = now() + ${leaseMs}::double precision * interval '1 millisecond'
    WHERE "id" IN (
      SELECT "id" FROM "WebhookDelivery" WHERE "state" = 'pending' AND "dueAt" <= clock_timestamp() + interval '1 millisecond'
      ORDER BY "dueAt" LIMIT ${limit} FOR UPDATE SKIP LOCKED)
    RETURNING *`
}

export type DeliveryOutcome =
  | { readonly kind: 'delivered'; readonly status: number }
  | { readonly kind: 'refused' | 'missed'; readonly status?: number; readonly error: string }
  /** It was not tried to its end, which does not count. */
  | { readonly kind: 'interrupted' }

/** Written only while nobody else has begun with it since, and only while it is not settled otherwise. */
export async function settleDelivery(
  { database }: Pick<Storage, 'database'>,
  { id, attempts }: Pick<WebhookDelivery, 'id' | 'attempts'>,
  outcome: DeliveryOutcome,
  random: () => number = Math.random,
): Promise<void> {
  const { prisma } = database
  const where = { id, attempts, state: 'pending' } as const
  switch (outcome.kind) {
    case 'delivered': {
      const data = {
        state: 'delivered',
        lastStatus: outcome.status,
        lastError: null,
        settledAt: new Date(),
      } as const
      await prisma.webhookDelivery.updateMany({ where, data })
      return
    }
    case 'refused': {
      const { status = null, error } = outcome
      const data = { state: 'failed', lastStatus: status, lastError: error, settledAt: new Date() } as const
      await prisma.webhookDelivery.updateMany({ where, data })
      return
    }
    case 'missed': {
      const { status = null, error } = outcome
      await prisma.$executeRaw`
        UPDATE "WebhookDelivery" SET "lastStatus" = ${status}, "lastError" = ${error}, "dueAt" = next."at",
          "state" = CASE WHEN next."at" < "giveUpAt" THEN "state" ELSE 'failed' END,
          "settledAt" = CASE WHEN next."at" < "giveUpAt" THEN NULL ELSE now() END
        FROM (SELECT now() + ${retryMs(attempts, random)}::double precision * interval '1 millisecond' AS "at") AS next
        WHERE "id" = ${id} AND "attempts" = ${attempts} AND "state" = 'pending'`
      return
    }
    case 'interrupted':
      await prisma.$executeRaw`
        UPDATE "WebhookDelivery" SET "attempts" = "attempts" - 1, "dueAt" = now()
        WHERE "id" = ${id} AND "attempts" = ${attempts} AND "state" = 'pending'`
  }
}

/** 5 s, then four times as long each, 6 h at most; a tenth more or less, so that many do not come back at once. */
export function retryMs(attempts: number, random: () => number): number {
  const plain = Math.min(longestRetryMs, firstRetryMs * 4 ** (attempts - 1))
  return plain * (0.9 + 0.2 * random())
}

/** Whose generation it tells of, and under which trace that was asked for. */
export async function originOf(
  { database }: Pick<Storage, 'database'>,
  { generationId: id }: Pick<WebhookDelivery, 'generationId'>,
): Promise<{ readonly project: Project; readonly traceparent: string | undefined }> {
  const select = { project: true, traceparent: true }
  const { project, traceparent } = await database.prisma.generation.findUniqueOrThrow({
    where: { id },
    select,
  })
  return { project: project as Project, traceparent: traceparent ?? undefined }
}

export interface DeliveryFilters {
  /** The last of the page before. */
  readonly cursor?: string | undefined
  /** 1 … 100 */
  readonly limit?: number | undefined
  readonly state?: DeliveryState | undefined
  readonly generationId?: string | undefined
}

export interface DeliveryPage {
  /** Newest first. */
  readonly data: readonly WebhookDelivery[]
  readonly nextCursor: string | undefined
}

/** @throws {WebhookError} `invalid_cursor` */
export async function listDeliveries(
  { database }: Pick<Storage, 'database'>,
  project: Project,
  { cursor, limit = 20, state, generationId }: DeliveryFilters,
): Promise<DeliveryPage> {
  const { webhookDelivery } = database.prisma
  const last =
    cursor === undefined
      ? undefined
      : await webhookDelivery.findUnique({ where: { id: cursor, generation: { project } } })
  if (last === null)
    throw new WebhookError('invalid_cursor', 'cursor: expected the next_cursor of an earlier page', {
      parameter: 'cursor',
    })
  const rows = await webhookDelivery.findMany({
    where: {
      generation: { project },
      ...(state === undefined ? {} : { state }),
      ...(generationId === undefined ? {} : { generationId }),
      ...(last && { number: { lt: last.number } }),
    },
    orderBy: { number: 'desc' },
    take: limit + 1,
  })
  const data = rows.slice(0, limit)
  return { data, nextCursor: rows.length > limit ? data.at(-1)?.id : undefined }
}

/** Makes it due now, and for another three days, whatever came of it. The same message, so its id stays. */
export async function replayDelivery(
  { database }: Pick<Storage, 'database'>,
  project: Project,
  id: string,
): Promise<WebhookDelivery | undefined> {
  return database.prisma.$transaction(async (transaction) => {
    const [row] = await transaction.$queryRaw<WebhookDelivery[]>`
      UPDATE "WebhookDelivery" SET "state" = 'pending', "settledAt" = NULL, "attempts" = 0, "dueAt" = now(),
        "giveUpAt" = now() + ${triedForMs}::double precision * interval '1 millisecond'
      WHERE "id" = ${id} AND "generationId" IN (
        SELECT "id" FROM "Generation" WHERE "id" = "generationId" AND "project" = ${project}) RETURNING *`
    if (row) await notify(transaction, dueChannel, row.generationId)
    return row
  })
}
