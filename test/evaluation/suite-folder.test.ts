import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { dimensions, type Gaussian } from '../../src/evaluation/frechet.ts'
import type { Sprite } from '../../src/evaluation/picture.ts'
import { readSuite, writeSuite } from '../../src/evaluation/suite-folder.ts'
import { SuiteError, type Suite } from '../../src/evaluation/suite.ts'
import { temporaryFolder } from '../weights/folder.ts'

/** A square of one colour, premultiplied, with a soft edge to the right. */
function sprite(width: number, height: number, [red, green, blue]: readonly number[]): Sprite {
  const pixels = new Uint8Array(width * height * 4)
  for (let at = 0; at < width * height; at++) {
    const alpha = at % width === width - 1 ? 128 : 255
    pixels.set(
      [red!, green!, blue!].map((value) => Math.round((value * alpha) / 255)),
      at * 4,
    )
    pixels[at * 4 + 3] = alpha
  }
  return { width, height, pixels }
}

const gaussian: Gaussian = {
  count: 500,
  mean: Float64Array.from({ length: dimensions }, (_, at) => at / 8),
  covariance: Float64Array.from({ length: dimensions ** 2 }, (_, at) => {
    const [row, column] = [Math.floor(at / dimensions), at % dimensions]
    return row === column ? 2 : 1 / (1 + row + column)
  }).map((value) => Number(value.toPrecision(9))),
}

const suite: Suite = {
  name: 'two',
  description: 'two things',
  prompts: [
    {
      prompt: 'a red "thing"',
      group: 'named',
      seeds: [1, 2 ** 53 - 1],
      size: undefined,
      expect: { item: 'a' },
    },
    {
      prompt: 'a blue thing',
      group: 'held-out',
      seeds: [0],
      size: { width: 128, height: 64 },
      expect: {
        item: 'b',
        background: { name: 'white', rgb: [255, 255, 255] },
        placement: { name: 'left', x: 0.25, y: 0.5 },
      },
    },
  ],
  references: {
    items: new Map([
      ['a', { name: 'red thing', sprite: sprite(20, 12, [200, 30, 40]) }],
      ['b', { name: 'blue thing', sprite: sprite(9, 20, [10, 60, 220]) }],
      ['c', { name: 'green thing', sprite: sprite(20, 20, [20, 160, 90]) }],
    ]),
    renders: { gaussian, perfect: { count: 40, distance: 0.001 } },
  },
}

async function written(): Promise<string> {
  const folder = await temporaryFolder()
  await writeSuite(folder, suite)
  return folder
}

test('what is written is read again, with colours within a few values', async () => {
  const folder = await written()
  const { references, ...rest } = await readSuite(folder)
  const { references: expected, ...expectedRest } = suite
  expect(rest).toEqual(expectedRest)
  expect(await readSuite(join(folder, 'suite.json'))).toMatchObject(expectedRest)
  expect(references!.renders).toEqual(expected!.renders)
  for (const [id, { name, sprite: kept }] of expected!.items) {
    const read = references!.items.get(id)!
    expect([read.name, read.sprite.width, read.sprite.height]).toEqual([name, kept.width, kept.height])
    for (const [at, value] of kept.pixels.entries())
      expect(Math.abs(read.sprite.pixels[at]! - value)).toBeLessThanOrEqual(at % 4 === 3 ? 0 : 4)
  }
})

test('the same suite gives the same bytes', async () => {
  const [one, other] = [await written(), await written()]
  for (const file of ['suite.json', 'items.webp', 'renders.json'])
    expect(await readFile(join(one, file))).toEqual(await readFile(join(other, file)))
})

test('a suite needs no references and expects nothing', async () => {
  const folder = await temporaryFolder()
  const file = join(folder, 'mine.json')
  await writeFile(
    file,
    JSON.stringify({ name: 'mine', prompts: [{ prompt: 'x', group: 'all', seeds: [7] }] }),
  )
  expect(await readSuite(file)).toEqual({
    name: 'mine',
    description: '',
    references: undefined,
    prompts: [{ prompt: 'x', group: 'all', seeds: [7], size: undefined, expect: {} }],
  })
})

type Json = Record<string, unknown>

/** In place of a suite. */
class WrittenAs {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** The suite above as JSON, in which a test changes something. */
async function changed(
  change: (suite: Json & { prompts: Json[]; references: Json & { items: Json[] } }) => unknown,
) {
  const folder = await written()
  const file = join(folder, 'suite.json')
  const json = JSON.parse(await readFile(file, 'utf8')) as Parameters<typeof change>[0]
  const result = change(json)
  await writeFile(file, result instanceof WrittenAs ? result.text : JSON.stringify(json))
  return folder
}

test.each<[string, Parameters<typeof changed>[0], RegExp]>([
  ['no JSON', () => new WrittenAs('{'), /expected JSON \(/],
  ['another value', () => new WrittenAs('[1]'), /expected a JSON object, got a list of 1$/],
  [
    'an unknown field',
    (suite) => (suite['titel'] = 1),
    /titel: expected only name, prompts, description, references; there is no such field$/,
  ],
  ['no name', (suite) => delete suite['name'], /name: expected a value, got nothing$/],
  [
    'no prompts',
    (suite) => (suite.prompts = []),
    /prompts: expected a list of at least one, got a list of 0$/,
  ],
  [
    'an empty prompt',
    ({ prompts }) => (prompts[1]!['prompt'] = ' '),
    /prompts\[1\]\.prompt: expected a text, got " "$/,
  ],
  [
    'a group that is no file name',
    ({ prompts }) => (prompts[0]!['group'] = '../a'),
    /prompts\[0\]\.group: expected small letters, digits and hyphens, 40 at most, got "\.\.\/a"$/,
  ],
  [
    'a seed that is none',
    ({ prompts }) => (prompts[0]!['seeds'] = [1.5]),
    /prompts\[0\]\.seeds\[0\]: expected a whole number from 0 to 9007199254740991, got 1\.5$/,
  ],
  [
    'half a size',
    ({ prompts }) => delete prompts[1]!['height'],
    /prompts\[1\]: expected both of width and height, or neither, got an object$/,
  ],
  [
    'an unknown item',
    ({ prompts }) => (prompts[0]!['expect'] = { item: 'z' }),
    /prompts\[0\]\.expect\.item: expected an id of the references' items, got "z"$/,
  ],
  [
    'a background of two channels',
    ({ prompts }) => (prompts[0]!['expect'] = { background: { name: 'x', rgb: [1, 2] } }),
    /prompts\[0\]\.expect\.background\.rgb: expected red, green and blue, got a list of 2$/,
  ],
  [
    'a place outside',
    ({ prompts }) => (prompts[0]!['expect'] = { placement: { name: 'x', x: 2, y: 0 } }),
    /prompts\[0\]\.expect\.placement\.x: expected a number from 0 to 1, got 2$/,
  ],
  [
    'an item without references',
    (suite) => delete (suite as Json)['references'],
    /prompts\[0\]\.expect\.item: expected nothing, since the suite has no references, got "a"$/,
  ],
  [
    'an id twice',
    ({ references }) => (references.items[1]!['id'] = 'a'),
    /references\.items: expected every id once, got a list of 3$/,
  ],
  [
    'an atlas elsewhere',
    ({ references }) => (references['atlas'] = '../items.webp'),
    /references\.atlas: expected a file's name, beside the suite, got "\.\.\/items\.webp"$/,
  ],
  [
    'an atlas that is not there',
    ({ references }) => (references['atlas'] = 'other.webp'),
    /other\.webp: expected a file of a suite \(ENOENT/,
  ],
  [
    'an atlas that is none',
    ({ references }) => (references['atlas'] = 'suite.json'),
    /suite\.json: expected the items' picture \(/,
  ],
  [
    'larger cells than the atlas has',
    ({ references }) => (references['cell'] = 60),
    /items\.webp: expected the items' picture \(expected 3 cells of 60 pixels, got 0\)$/,
  ],
])('%s is told in one line', async (_, change, message) => {
  const folder = await changed(change)
  const error: unknown = await readSuite(folder).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(SuiteError)
  const text = (error as SuiteError).message
  expect(text).toMatch(message)
  expect(text).not.toContain('\n')
  expect(text.startsWith(folder)).toBe(true)
})

test('statistics of another space are refused', async () => {
  const folder = await written()
  const file = join(folder, 'renders.json')
  const renders = JSON.parse(await readFile(file, 'utf8')) as Json
  await writeFile(file, JSON.stringify({ ...renders, space: 'inception' }))
  await expect(readSuite(folder)).rejects.toThrow(
    /renders\.json: space: expected "oklab-.*"; make the suite anew, got "inception"$/,
  )
  await writeFile(file, JSON.stringify({ ...renders, mean: [1] }))
  await expect(readSuite(folder)).rejects.toThrow(
    /renders\.json: mean: expected a list of 64, got a list of 1$/,
  )
})
