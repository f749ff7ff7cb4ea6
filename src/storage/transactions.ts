/** Transactions that lock rows in different orders, now and then two that then wait for each other. */
import type { Database, Transaction } from './database.ts'
import { isDeadlock } from './outage.ts'

/** Begins anew when the database ended it for the sake of another. */
export async function inTransaction<T>(
  { prisma }: Pick<Database, 'prisma'>,
  work: (transaction: Transaction) => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await prisma.$transaction(work)
    } catch (error) {
      if (!isDeadlock(error)) throw error
    }
  }
}
