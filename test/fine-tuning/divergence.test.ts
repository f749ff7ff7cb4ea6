/** When a stage's report is a warning. */
import { expect, test } from 'vitest'
import { divergence } from '../../src/fine-tuning/divergence.ts'

const after = (lossAfter: number, lossBefore = 2) =>
  divergence({ stage: 1, heldOut: { lossBefore, lossAfter, pictures: 3 } })

test('a loss that rises by more than a tenth, or is no number, is a warning', () => {
  for (const worse of [2.21, 9, Infinity, NaN])
    expect(after(worse)).toMatch(/^Stage 2 made the model worse: /)
  expect(after(8.5)).toContain('from 2.000 to 8.500')
  for (const good of [0.1, 2, 2.19]) expect(after(good)).toBeUndefined()
  expect(after(-1.95, -2)).toBeUndefined()
})

test('where nothing is held out nothing is known', () => {
  expect(divergence({ stage: 0, heldOut: undefined })).toBeUndefined()
})
