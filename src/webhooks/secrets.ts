/**
 * What webhooks are signed with, as Standard Webhooks has it. One secret is current; after a rotation the one before it signs
 * too for a while, so that receivers can change over without missing anything.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { defaultProject, type Project } from '../access/project.ts'
import type { Storage } from '../storage/storage.ts'

export interface WebhookSecret {
  /** As receivers are given it: `whsec_` and base64. */
  readonly secret: string
  readonly createdAt: Date
  /** Until when it signs beside its successor; undefined for the current one. */
  readonly retiresAt: Date | undefined
}

const secretBytes = 32

/** Those that sign now, the current one first. */
export async function signingSecrets(
  { database }: Pick<Storage, 'database'>,
  project: Project,
): Promise<WebhookSecret[]> {
  const rows = await database.prisma.webhookSecret.findMany({
    where: { OR: [{ retiresAt: null }, { retiresAt: { gt: new Date() } }] },
    orderBy: { number: 'desc' },
  })
  return rows.map(({ secret, createdAt, retiresAt }) => ({
    secret: `whsec_${secretOf(project, secret).toString('base64')}`,
    createdAt,
    retiresAt: retiresAt ?? undefined,
  }))
}

/** A project that knows its own can sign for no other. */
const secretOf = (project: Project, secret: Uint8Array): Buffer =>
  project === defaultProject ? Buffer.from(secret) : createHmac('sha256', secret).update(project).digest()

/** Of processes that start together one makes it. */
export async function ensureSecret({ database }: Pick<Storage, 'database'>): Promise<void> {
  await database.prisma.$executeRaw`
    INSERT INTO "WebhookSecret" ("secret") VALUES (${randomBytes(secretBytes)})
    ON CONFLICT DO NOTHING`
}

/** A new one signs from now on; the one before it for so long beside it. */
export async function rotateSecret(
  { database }: Pick<Storage, 'database'>,
  overlapMs: number,
): Promise<void> {
  await database.prisma.$transaction(async (transaction) => {
    // Two rotations at once take their turns here, and the second finds the first one's secret.
    await transaction.$executeRaw`LOCK TABLE "WebhookSecret" IN EXCLUSIVE MODE`
    const retiresAt = new Date(Date.now() + overlapMs)
    await transaction.webhookSecret.updateMany({ where: { retiresAt: null }, data: { retiresAt } })
    await transaction.webhookSecret.create({ data: { secret: randomBytes(secretBytes) } })
    await transaction.webhookSecret.deleteMany({ where: { retiresAt: { lt: new Date() } } })
  })
}

/** The headers of a message, with a signature for each secret. */
export function signedHeaders(
  message: { readonly id: string; readonly sentAt: Date; readonly body: string },
  secrets: readonly Pick<WebhookSecret, 'secret'>[],
): Record<string, string> {
  const { id, sentAt, body } = message
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
    'webhook-signature': secrets.map(({ secret }) => new Webhook(secret).sign(id, sentAt, body)).join(' '),
  }
}
