/** Removes picture files that no row knows: what a process wrote before it died and never came to tell. */
import type { Logger } from 'pino'
import type { BlobStore } from '../storage/blobs.ts'
import type { GenerationReader } from './reader.ts'

const batchSize = 500

/**
 * @param found keys of files that were there before this process wrote any; later ones may still be waiting for their row
 * @returns how many were removed. A sweep that fails is logged and tried again at the next start.
 */
export async function sweepBlobs(
  found: readonly string[],
  reader: GenerationReader,
  blobs: BlobStore,
  log: Logger,
): Promise<number> {
  let removed = 0
  try {
    for (let start = 0; start < found.length; start += batchSize) {
      for (const key of await reader.unknownBlobs(found.slice(start, start + batchSize))) {
        await blobs.delete(key)
        removed += 1
      }
    }
    if (removed > 0) log.info({ removed }, 'removed picture files that no row knows')
  } catch (error) {
    log.error({ err: error, removed }, 'the sweep of picture files stopped early')
  }
  return removed
}
