import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { reportQuantisation } from '../../src/engine/quantisation-report.ts'
import { temporaryFolder } from '../weights/folder.ts'

const golden = fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url))

test('pictures that are equal have no PSNR, which JSON could not hold', async () => {
  const report = await reportQuantisation(
    { original: golden, quantised: golden },
    {
      provider: 'cpu',
      threads: 2,
      lowering: 'serve',
      cacheDir: await temporaryFolder(),
      onNote: () => undefined,
    },
    { prompts: ['a boat'], steps: 1, maxPixelsPerSide: 256 },
  )
  expect(report).toMatchObject({ latents: { relativeError: 0 }, pixels: {} })
  expect(JSON.parse(JSON.stringify(report))).toEqual(report)
})
