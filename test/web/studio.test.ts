/** What the studio makes of what it is told, and the page as a browser first sees it. */
import { expect, test } from 'vitest'
import type { SchemaFineTuningSample } from '../../src/sdk/index.ts'
import { bytes, duration, figure } from '../../src/web/studio/format.ts'
import { stackedBars } from '../../src/web/studio/devices/timeline.ts'
import { emptyDraft, promptDraft, requestOf, stageDraft } from '../../src/web/studio/jobs/draft.ts'
import { sheetOf, sheetsOf } from '../../src/web/studio/jobs/sheets.ts'
import { smoothed } from '../../src/web/studio/jobs/smoothing.ts'
import { buildTestApp, listen } from '../http/server.ts'
import { unreachableService } from '../http/unreachable.ts'
import { accessibilityFaults, chromiumPath, openBrowser, visit } from './browser.ts'

test('what is left empty in the wizard is left to the service, and what is typed is sent as what it means', () => {
  const draft = { ...emptyDraft('ds_1'), model: 'emoji' }
  expect(requestOf(draft)).toEqual({
    model: 'emoji',
    dataset: 'ds_1',
    method: { type: 'lora' },
    stages: [{ kind: 'align' }],
    on_bad_data: 'fail',
  })
  const stage = stageDraft('aesthetic')
  expect(
    requestOf({
      ...draft,
      method: 'full',
      rank: '8',
      stages: [
        { ...stage, numbers: { steps: ' 40 ', learning_rate: '1e-3' }, aspects: 'all', precision: 'float16' },
        { ...stage, minScore: '5.5', schedule: 'cosine', aspects: 'square' },
      ],
      prompts: [promptDraft('a hat', 7), promptDraft('  ', 8)],
      samplesEvery: '10',
      suffix: ' hats ',
    }),
  ).toEqual({
    model: 'emoji',
    dataset: 'ds_1',
    method: { type: 'full' },
    stages: [
      {
        kind: 'aesthetic',
        steps: 40,
        learning_rate: 0.001,
        multi_aspect: true,
        train: { precision: 'float16' },
      },
      {
        kind: 'aesthetic',
        schedule: 'cosine',
        multi_aspect: false,
        filter: { min_aesthetic_score: 5.5 },
      },
    ],
    samples: { prompts: [{ prompt: 'a hat', seed: 7 }], every: 10 },
    suffix: 'hats',
    on_bad_data: 'fail',
  })
})

const sample = (step: number, index: number) => ({ step, index }) as SchemaFineTuningSample

test('samples come as sheets by step, and a checkpoint has the last sheet that its weights can have drawn', () => {
  const sheets = sheetsOf([sample(20, 1), sample(10, 0), sample(20, 0), sample(10, 1)])
  expect(sheets.map(({ step, samples }) => [step, samples.map(({ index }) => index)])).toEqual([
    [10, [0, 1]],
    [20, [0, 1]],
  ])
  expect([5, 10, 15, 20, 99].map((step) => sheetOf(sheets, step)?.step)).toEqual([10, 10, 10, 20, 20])
  expect(sheetOf([], 5)).toBeUndefined()
})

test('a trend begins with the first value, not with a bias to nothing, and keeps what is constant', () => {
  expect(smoothed([])).toEqual([])
  expect(smoothed([4, 4, 4]).map((value) => Number(value.toFixed(9)))).toEqual([4, 4, 4])
  const [first = 0, second = 0] = smoothed([1, 3])
  expect(first).toBeCloseTo(1)
  expect(second).toBeGreaterThan(1.9)
  expect(second).toBeLessThan(3)
})

test('bars stand for equal times up to now, training on top of serving', () => {
  const { width, serving, training } = stackedBars({
    serving: [1, 0.5, 0.5, 0, 0],
    training: [0, 0, 0.5, 0, 0],
    barSeconds: 2,
  })
  expect(width).toBe(3)
  expect(serving).toBe('M0 1V0h0.8V1zM1 1V0.5h0.8V1z')
  expect(training).toBe('M1 0.5V0.25h0.8V0.5z')
})

test.each([
  [bytes(0), '0 B'],
  [bytes(999), '999 B'],
  [bytes(1_500), '1.5 KB'],
  [bytes(25_300_000_000), '25.3 GB'],
  [duration(0.2), 'under 1 s'],
  [duration(59.7), '1 min 0 s'],
  [duration(3_599), '59 min 59 s'],
  [duration(3_660), '1 h 1 min'],
  [duration(400_000), '5 days'],
  [figure(0), '0'],
  [figure(0.0001), '1e-4'],
  [figure(0.01234), '0.0123'],
  [figure(1_234.5), '1,235'],
])('%s is written as %s', (written, expected) => expect(written).toBe(expected))

test.skipIf(chromiumPath === undefined)(
  'where the service cannot answer, the studio says so and what helps, accessible in both themes',
  { timeout: 60_000 },
  async () => {
    const app = await buildTestApp({ ...unreachableService, linkToBlob: async () => undefined })
    const browser = await openBrowser()
    try {
      const address = await listen(app)
      await using tab = await visit(browser)
      await tab.page.goto(`${address}/studio`)
      await tab.page.getByRole('alert').getByRole('button', { name: 'Try again' }).waitFor()
      for (const colorScheme of ['light', 'dark'] as const) {
        await tab.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
        expect(await accessibilityFaults(tab.page)).toEqual([])
      }
    } finally {
      await browser.close()
      await app.close()
    }
  },
)
