/** Who this database is, and the secret that all processes on it share: made once, with the first start. */
import { hkdfSync, randomBytes, randomUUID } from 'node:crypto'
import type { Database } from './database.ts'

export interface Installation {
  readonly id: string
  /** 32 bytes that are always the same for a purpose, and tell nothing of those for another. */
  keyFor(purpose: string): Uint8Array
}

export async function openInstallation({ prisma }: Pick<Database, 'prisma'>): Promise<Installation> {
  // Of processes that start together one row wins.
  await prisma.installation.createMany({
    data: { id: randomUUID(), secret: randomBytes(32) },
    skipDuplicates: true,
  })
  const { id, secret } = await prisma.installation.findUniqueOrThrow({ where: { singleton: true } })
  return {
    id,
    keyFor: (purpose) => new Uint8Array(hkdfSync('sha256', secret, '', `atelier ${purpose}`, 32)),
  }
}
