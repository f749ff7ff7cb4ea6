import { expect, test } from 'vitest'
import { chooseMicroBatch } from '../../src/training/micro-batch-size.ts'

/** What is chosen, and which sizes were measured. */
async function choose(batchSize: number, maxMs: number, costMs: (rows: number) => number) {
  const measured: number[] = []
  const choosing = chooseMicroBatch(batchSize, maxMs, async function* (rows) {
    measured.push(rows)
    yield
    return costMs(rows)
  })
  for (;;) {
    const { done, value } = await choosing.next()
    if (done) return { rows: value, measured }
  }
}

test('the largest divisor of the batch under the limit is chosen', async () => {
  expect(await choose(24, 100, (rows) => 10 * rows)).toEqual({ rows: 8, measured: [1, 2, 3, 4, 6, 8, 12] })
  expect(await choose(16, 1e9, (rows) => 10 * rows)).toEqual({ rows: 16, measured: [1, 2, 4, 8, 16] })
})

test('one row is taken even where it is too much', async () => {
  expect(await choose(8, 100, () => 500)).toEqual({ rows: 1, measured: [1] })
})

test('nothing is measured that could not fit', async () => {
  // 89 rows at 12 ms each, or 6 and a half at best.
  expect(await choose(178, 300, (rows) => 12 * rows)).toEqual({ rows: 2, measured: [1, 2] })
})
