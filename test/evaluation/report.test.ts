import { join } from 'node:path'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { contactSheet, spread } from '../../src/evaluation/contact-sheet.ts'
import type { Evaluation, Judged } from '../../src/evaluation/evaluate.ts'
import { sharesOf, type Measure, type Verdict } from '../../src/evaluation/measures.ts'
import type { Sprite } from '../../src/evaluation/picture.ts'
import { reportJson, reportLines, type Evaluated } from '../../src/evaluation/report.ts'
import type { Suite, SuitePrompt } from '../../src/evaluation/suite.ts'
import { temporaryFolder } from '../weights/folder.ts'

const black: Sprite = {
  width: 32,
  height: 32,
  pixels: Uint8Array.from({ length: 32 * 32 * 4 }, (_, at) => (at % 4 === 3 ? 255 : 0)),
}
const prompt: SuitePrompt = {
  prompt: 'a thing',
  group: 'named',
  seeds: [1],
  size: undefined,
  expect: { item: 'a', background: { name: 'white', rgb: [255, 255, 255] } },
}
const suite: Suite = {
  name: 'things',
  description: '',
  prompts: [prompt],
  references: {
    items: new Map([
      ['a', { name: 'thing', sprite: black }],
      ['b', { name: 'other', sprite: black }],
    ]),
    renders: {
      gaussian: { count: 400, mean: new Float64Array(0), covariance: new Float64Array(0) },
      perfect: { count: 100, distance: 0.00123456 },
    },
  },
}

function judged(index: number, ids: readonly string[]): Judged {
  const right = new Map<Measure, boolean>([
    ['top1', ids[0] === 'a'],
    ['top5', ids.includes('a')],
    ['background', index === 0],
  ])
  const verdict: Verdict = {
    neighbours: ids.map((id, at) => ({ id, distance: (at + 1) / 7 })),
    backgroundDistance: 0.0123456,
    placementDistance: undefined,
    right,
  }
  const sighting = {
    width: 8,
    height: 8,
    background: [1, 0, 0],
    box: undefined,
    features: new Float32Array(0),
  } as const
  return { index, prompt, seed: index, sighting, verdict }
}

const evaluation = (pictures: readonly Judged[], frechetDistance?: number): Evaluation => ({
  pictures,
  groups: [
    { group: 'named', pictures: pictures.length, shares: sharesOf(pictures.map(({ verdict }) => verdict)) },
  ],
  frechetDistance,
})

const pictures = [judged(0, ['a', 'b']), judged(1, ['b', 'a']), judged(2, ['b']), judged(3, [])]
const evaluated: Evaluated = {
  model: { name: 'tiny', version: '0123' },
  settings: { steps: 20, guidanceScale: 4.5, scheduler: 'dpm++_2m' },
  suite,
  evaluation: evaluation(pictures, 0.0314159),
  floor: evaluation(pictures.slice(2)),
}

test('the table has a row a group, intervals, distances, and what the measures mean', () => {
  expect(reportLines(evaluated)).toEqual([
    'things on tiny (0123): 20 steps of dpm++_2m, guidance 4.5',
    '',
    '                       pictures               top-1                top-5          background',
    'named                         4  25.0 % [4.6, 69.9]  50.0 % [15.0, 85.0]  25.0 % [4.6, 69.9]',
    'named, random weights         2   0.0 % [0.0, 65.8]    0.0 % [0.0, 65.8]   0.0 % [0.0, 65.8]',
    '',
    'Fréchet distance, squared, to 400 held-out renders: 0.0314 over 4 pictures',
    '  100 other renders: 0.00123',
    '  random weights: not measured with 2 pictures (from 128 on)',
    'top-1, top-5: nearest of 2 items, on the background measured',
    'background: within ΔE 0.05 in OKLab',
    'in brackets: 95 % confidence intervals (Wilson)',
  ])
})

test('the JSON has every picture with what it was taken for', () => {
  const json = JSON.parse(JSON.stringify(reportJson(evaluated, (index) => `${index}.png`))) as {
    readonly groups: readonly unknown[]
    readonly pictures: readonly unknown[]
  }
  expect(json).toMatchObject({
    model: evaluated.model,
    settings: evaluated.settings,
    frechet_distance: 0.0314159,
    renders: { count: 400, perfect: { count: 100 } },
    floor: { pictures: 2 },
  })
  expect(json.groups[0]).toMatchObject({ group: 'named', pictures: 4, top1: { hits: 1, of: 4, share: 0.25 } })
  expect(json.pictures[1]).toEqual({
    file: '1.png',
    prompt: 'a thing',
    group: 'named',
    seed: 1,
    expect: prompt.expect,
    nearest: [
      { id: 'b', name: 'other', distance: 0.1429 },
      { id: 'a', name: 'thing', distance: 0.2857 },
    ],
    background_distance: 0.01235,
    right: { top1: false, top5: true, background: false },
  })
})

test('a contact sheet shows each picture, what was asked for, and in green, yellow or red whether it is that', async () => {
  const folder = await temporaryFolder()
  const fileOf = (index: number) => join(folder, `${index}.png`)
  const blue = { create: { width: 64, height: 32, channels: 3, background: '#0000ff' } } as const
  for (const { index } of pictures) await sharp(blue).png().toFile(fileOf(index))
  const { data, info } = await sharp(await contactSheet(pictures, suite.references, fileOf))
    .raw()
    .toBuffer({ resolveWithObject: true })
  expect([info.width, info.height]).toEqual([4 * 136 + 8, 172 + 8])
  const colourAt = (x: number, y: number) => [
    ...data.subarray((y * info.width + x) * 3, (y * info.width + x) * 3 + 3),
  ]
  const near = (found: readonly number[], expected: readonly number[]) => {
    for (const [at, value] of found.entries()) expect(Math.abs(value - expected[at]!)).toBeLessThan(30)
  }
  for (const [at, mark] of [
    [67, 160, 71],
    [253, 216, 53],
    [229, 57, 53],
    [229, 57, 53],
  ].entries()) {
    const left = 8 + at * 136
    near(colourAt(left + 64, 8 + 64), [0, 0, 255])
    near(colourAt(left + 64, 8 + 5), [250, 250, 250])
    near(colourAt(left + 16, 8 + 132 + 16), [0, 0, 0])
    near(colourAt(left + 64, 8 + 132 + 16), mark)
  }
})

test('what is too much for a sheet is thinned out evenly', () => {
  expect(spread([1, 2, 3], 3)).toEqual([1, 2, 3])
  expect(spread([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4)).toEqual([0, 2, 5, 7])
})
