/** What belongs to the end of a generation, in the transaction that writes it: the events, the webhook, and no job any more. */
import type { Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { addDelivery } from '../webhooks/deliveries.ts'
import { addEvents, eventChannel } from './event-log.ts'
import type { EventDetails, FinalEventDetails } from './events.ts'
import { jobIdOf } from './generation.ts'

/** Told when a generation has become final; the payload is its id. */
export const settledChannel = 'atelier_generation_settled'

/** @param eventCount the row's, which counts these events already */
export async function afterSettled(
  { generationQueue }: Pick<Storage, 'generationQueue'>,
  transaction: Transaction,
  generationId: string,
  eventCount: number,
  events: readonly EventDetails[],
  final: FinalEventDetails,
): Promise<void> {
  const added = { generationId, eventCount, events: [...events, final] }
  await addEvents(transaction, [added], [eventChannel, settledChannel])
  await addDelivery(transaction, generationId, `generation.${final.type}`)
  await generationQueue.remove(transaction, jobIdOf(generationId))
}
