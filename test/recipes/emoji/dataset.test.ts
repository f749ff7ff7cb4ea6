import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeDataset, planPicture } from '../../../recipes/emoji/dataset.ts'
import type { Renders } from '../../../recipes/emoji/render.ts'
import { fewRenders } from './renders.ts'

let renders: Renders
let folder: string
beforeAll(async () => {
  renders = await fewRenders()
  folder = await mkdtemp(join(tmpdir(), 'emoji-data-set-'))
})
afterAll(async () => {
  await renders[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

const options = { count: 40, seed: 5, kind: 'compositions', captions: 'dense', size: 64 } as const

test('a folder holds every picture at its size, with captions, class and score', async () => {
  const out = join(folder, 'whole')
  await makeDataset({ ...options, out }, renders)
  const rows = (await readFile(join(out, 'captions.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  expect(rows).toHaveLength(options.count)
  for (const [index, row] of rows.entries()) {
    const { file, captions, label, composition, aestheticScore } = planPicture(options, index, renders)
    expect(row).toEqual({
      file,
      captions,
      aesthetic_score: aestheticScore,
      label,
    })
    expect(captions).toHaveLength(4)
    const { width, height, format } = await sharp(join(out, file)).metadata()
    expect({ width, height, format }).toEqual({
      width: composition.width,
      height: composition.height,
      format: 'png',
    })
  }
})

test('a picture depends on its seed and number alone', async () => {
  const [more, fewer] = [join(folder, 'more'), join(folder, 'fewer')]
  await makeDataset({ ...options, count: 12, out: more }, renders)
  await makeDataset({ ...options, count: 3, out: fewer }, renders)
  const picture = '000/000002.png'
  expect(await readFile(join(fewer, picture))).toEqual(await readFile(join(more, picture)))
  await makeDataset({ ...options, seed: 6, count: 3, out: fewer }, renders)
  expect(await readFile(join(fewer, picture))).not.toEqual(await readFile(join(more, picture)))
})

test('portraits have a class each, and scores reach from plain to pleasing', () => {
  const single = Array.from({ length: 50 }, (_, index) =>
    planPicture({ ...options, kind: 'single' }, index, renders),
  )
  expect(single.every(({ label }) => /^(noto|fluent|twemoji) [a-z]/.test(label))).toBe(true)
  expect(single.some(({ label }) => label.endsWith('of several kinds'))).toBe(false)
  expect(single.every(({ composition }) => composition.width === 64 && composition.height === 64)).toBe(true)
  const aesthetic = Array.from({ length: 50 }, (_, index) =>
    planPicture({ ...options, kind: 'aesthetic' }, index, renders),
  )
  const mean = (scores: readonly { aestheticScore: number }[]) =>
    scores.reduce((sum, { aestheticScore }) => sum + aestheticScore, 0) / scores.length
  const compositions = Array.from({ length: 50 }, (_, index) => planPicture(options, index, renders))
  expect(mean(aesthetic)).toBeGreaterThan(mean(compositions) + 0.5)
  expect(new Set(aesthetic.map(({ composition }) => composition.style))).toEqual(new Set(['fluent']))
  for (const { composition, aestheticScore } of [...single, ...aesthetic, ...compositions])
    expect(aestheticScore >= 7).toBe(composition.style === 'fluent')
})
