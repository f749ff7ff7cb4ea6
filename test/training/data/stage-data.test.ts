import { expect, test } from 'vitest'
import { StageData, type MicroBatch } from '../../../src/training/data/stage-data.ts'
import { jobOf, optionsOf, smallSet, temporaryFolder } from './small-set.ts'

const twelve = Array.from({ length: 12 }, () => ({}))

test('a micro-batch is the same to the bit in another instance, asked for in another order', async () => {
  await using folder = await temporaryFolder()
  await smallSet(folder.path, twelve)
  const job = jobOf(folder.path)
  const first = await StageData.open(optionsOf(job))
  const second = await StageData.open(optionsOf(job))
  const places = Array.from({ length: 12 }, (_, i) => [Math.floor(i / 2), i % 2] as const)
  const forwards: MicroBatch[] = []
  for (const place of places) forwards.push(await first.microBatch(...place))
  const backwards: MicroBatch[] = []
  for (const place of places.toReversed()) backwards.unshift(await second.microBatch(...place))
  expect(backwards).toEqual(forwards)
  expect(await first.microBatch(3, 1)).not.toEqual(await first.microBatch(3, 0))
})
