import { join } from 'node:path'
import { expect, test } from 'vitest'
import { baseSize, writeInitialModel } from '../../../recipes/emoji/default-model.ts'
import { vocabulary } from '../../../recipes/emoji/vocabulary.ts'
import { bucketsFor } from '../../../src/diffusion/buckets.ts'
import { parseSchedulerConfig } from '../../../src/diffusion/scheduler-config.ts'
import { readPixArtConfig } from '../../../src/models/pixart.ts'
import { readVaeConfig, vaeDownsampling } from '../../../src/models/vae.ts'
import { openCheckpoint } from '../../../src/weights/checkpoint.ts'
import { temporaryFolder } from '../../weights/folder.ts'

const captions = vocabulary.map(({ name, tags }) => `a ${name} in fluent style, theme: ${tags.join(', ')}`)

test('the initial model is what the recipe says, within the size that is shipped, and the same every time', async () => {
  const folder = await temporaryFolder()
  await writeInitialModel(join(folder, 'one'), { captions, seed: 1 })
  await writeInitialModel(join(folder, 'again'), { captions, seed: 1 })
  const [one, again] = await Promise.all([
    openCheckpoint(join(folder, 'one')),
    openCheckpoint(join(folder, 'again')),
  ])
  const components = [one.transformer, one.textEncoder, one.vae]
  expect([again.transformer, again.textEncoder, again.vae].map(({ fingerprint }) => fingerprint)).toEqual(
    components.map(({ fingerprint }) => fingerprint),
  )
  const parameters = components.map(({ tensors }) =>
    [...tensors.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
  )
  const halves = 2 * parameters.reduce((a, b) => a + b, 0)
  // Beside the suite and the record of the training.
  expect(halves).toBeLessThan(22.5e6)

  expect(parseSchedulerConfig(one.scheduler.config).predictionType).toBe('v_prediction')
  const [pixart, vae] = [readPixArtConfig(one.transformer.config), readVaeConfig(one.vae.config)]
  expect(pixart.microConditioned).toBe(true)
  expect(pixart.sampleSize * vaeDownsampling(vae)).toBe(baseSize)
  const grid = vaeDownsampling(vae) * pixart.patchSize
  for (const { width, height } of bucketsFor(baseSize)) expect([width % grid, height % grid]).toEqual([0, 0])
})
