/** Work that one process at a time does for all on a database, each so long after the last. */
import type { Database } from './database.ts'

/** @returns whether it is this process's turn: nobody has begun it within that time */
export async function takeTurn(
  { prisma }: Pick<Database, 'prisma'>,
  name: string,
  everyMs: number,
): Promise<boolean> {
  const taken = await prisma.$executeRaw`
    INSERT INTO "Upkeep" AS last ("name", "begunAt") VALUES (${name}, now())
    ON CONFLICT ("name") DO UPDATE SET "begunAt" = excluded."begunAt"
    WHERE last."begunAt" <= now() - ${everyMs}::double precision * interval '1 millisecond'`
  return taken === 1
}
