/** What is assumed of a model before any of its calls was measured. */
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { CostBook, guessProfile } from '../../src/engine/cost-book.ts'
import { Model } from '../../src/engine/model.ts'

test('a guessed step has a fixed part, so that calls of a model too slow to be measured are merged', async () => {
  const model = await Model.open(
    'tiny',
    fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url)),
    { provider: 'cpu', threads: 1, cacheDir: tmpdir(), lowering: 'serve', onNote: () => undefined },
  )
  const { layers, heads, headWidth } = model.pixart
  const { step } = new CostBook(guessProfile(model)).costs
  // About 18 products of width × width a block; a call reads each weight once, and a token takes two operations of each.
  const weights = Math.min(model.description.sizeBytes / 4, layers * 18 * (heads * headWidth) ** 2)
  expect(step.baseMs).toBeCloseTo((4 * weights) / 1e7, 6)
  expect(step.perUnitMs).toBeCloseTo((2 * weights) / 5e7, 6)
})
