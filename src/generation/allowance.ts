/** What a key may still ask for: counted in the transaction that creates a generation, so that no two take the same. */
import type { CallingKey } from '../access/caller.ts'
import type { Transaction } from '../storage/database.ts'
import { GenerationError } from './errors.ts'

/** After which a client may well find that something of its own has ended. */
const retryInFlightSeconds = 2

/** @throws {GenerationError} `in_flight_limit`, `images_limit` */
export async function spend(transaction: Transaction, key: CallingKey, images: number): Promise<void> {
  const { id, maxInFlight, imagesPerMonth } = key
  const now = new Date()
  const month = now.toISOString().slice(0, 7)
  // Until the transaction ends this row is held: whoever else creates with the key waits, and then sees what was created.
  const [asked] = await transaction.$queryRaw<[{ images: number }]>`
    INSERT INTO "ApiKeyMonth" AS spent ("keyId", "month", "images") VALUES (${id}, ${month}, ${images}::int)
    ON CONFLICT ("keyId", "month") DO UPDATE SET "images" = spent."images" + excluded."images"
    RETURNING "images"`
  if (imagesPerMonth !== undefined && asked.images > imagesPerMonth) {
    const left = imagesPerMonth - (asked.images - images)
    const nextMonth = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)
    throw new GenerationError(
      'images_limit',
      `n: expected at most ${left} pictures, since the key may ask for ${imagesPerMonth} a month, got ${images}`,
      { retryAfterSeconds: Math.ceil((nextMonth - now.getTime()) / 1000), parameter: 'n' },
    )
  }
  if (maxInFlight === undefined) return
  const inFlight = await transaction.generation.count({
    where: { keyId: id, state: { in: ['queued', 'running'] } },
  })
  if (inFlight < maxInFlight) return
  throw new GenerationError(
    'in_flight_limit',
    `expected at most ${maxInFlight} generations of the key that have not ended, got one more; wait for one to end, or cancel one`,
    { retryAfterSeconds: retryInFlightSeconds },
  )
}
