/** Checks a dataset that has come and writes what it finds into rows, a batch at a time. */
import { setImmediate as breathe } from 'node:timers/promises'
import type { Claim, DatasetClaims } from './claims.ts'
import type { DatasetCounts } from './dataset.ts'
import type { Entry } from './entries.ts'
import type { CheckedItem } from './join.ts'
import { isLeftOut, type Problem } from './problems.ts'
import { readEntries, type ReadOptions } from './read-entries.ts'

const batchSize = 500
const tellEveryMs = 1000

/** @throws {DatasetError} when it is not usable as a whole; {@link ClaimLost}; the signal's reason; what database and disk run into */
export async function validate(
  claim: Claim,
  entries: AsyncIterable<Entry>,
  claims: DatasetClaims,
  { signal, ...options }: ReadOptions & { signal: AbortSignal },
): Promise<DatasetCounts> {
  const { maxListedProblems } = options.limits
  const tally = { items: 0, captioned: 0, labelled: 0, scored: 0, problems: 0, leftOut: 0, sizeBytes: 0 }
  const items: CheckedItem[] = []
  const problems: Problem[] = []
  let filesRead = 0
  let toldAt = performance.now()
  const writeItems = async () => {
    const batch = items.splice(0)
    await claims.addItems(claim, batch, tally.items - batch.length)
  }
  const tell = async () => {
    toldAt = performance.now()
    await claims.read(claim, { files: filesRead, problems: tally.problems })
  }
  // Problems may name pictures, whose rows come last.
  const writeProblems = async () => claims.addProblems(claim, problems, 0)

  try {
    for await (const reading of readEntries(entries, options)) {
      signal.throwIfAborted()
      switch (reading.kind) {
        case 'progress':
          filesRead = reading.files
          if (performance.now() - toldAt > tellEveryMs) await tell()
          break
        case 'problem':
          tally.problems += 1
          tally.leftOut += Number(isLeftOut(reading.problem))
          if (problems.length < maxListedProblems) problems.push(reading.problem)
          break
        case 'item':
          items.push(reading.item)
          tally.items += 1
          tally.captioned += Number(reading.item.captions.length > 0)
          tally.labelled += Number(reading.item.label !== undefined)
          tally.scored += Number(reading.item.aestheticScore !== undefined)
          tally.sizeBytes += reading.item.sizeBytes
          if (items.length === batchSize) {
            await writeItems()
            await breathe()
          }
          break
      }
    }
    await writeItems()
    await writeProblems()
  } catch (error) {
    signal.throwIfAborted()
    await claims.addProblems(
      claim,
      problems.map(({ itemId: _itemId, ...rest }) => rest),
      0,
    )
    await tell()
    throw error
  }
  return { ...tally, filesRead }
}
