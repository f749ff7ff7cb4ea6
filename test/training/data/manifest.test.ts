import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readManifest, writeManifest } from '../../../src/training/data/manifest.ts'
import type { TrainingItem } from '../../../src/training/job.ts'
import { temporaryFolder } from '../../weights/folder.ts'

const text = fc.string({ unit: 'binary' })
const side = fc.integer({ min: 1, max: 2 ** 30 })
const item: fc.Arbitrary<TrainingItem> = fc.record(
  {
    id: fc.string({ unit: 'binary', minLength: 1 }),
    file: text.map((name) => `/pictures/${name}`),
    sha256: fc.stringMatching(/^[0-9a-f]{64}$/),
    width: side,
    height: side,
    captions: fc.array(text),
    label: text,
    aestheticScore: fc.double({ noNaN: true, noDefaultInfinity: true }).map((score) => score + 0),
  },
  { requiredKeys: ['id', 'file', 'sha256', 'width', 'height', 'captions'] },
)

const example: TrainingItem = {
  id: 'a',
  file: '/pictures/a.png',
  sha256: '0'.repeat(64),
  width: 3,
  height: 4,
  captions: ['one', 'two'],
}

test('what is written is read again, whatever its texts hold', async () => {
  const folder = await temporaryFolder()
  const file = join(folder, 'manifest.jsonl')
  const lists = fc.uniqueArray(item, { selector: ({ id }) => id, maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(lists, async (items) => {
      expect(await writeManifest(file, items)).toBe(items.length)
      expect(await Array.fromAsync(readManifest(file))).toEqual(items)
    }),
    { numRuns: 60 },
  )
})

test('texts with line separators, and more lines than a piece, come through', async () => {
  const folder = await temporaryFolder()
  const file = join(folder, 'manifest.jsonl')
  const items = Array.from({ length: 5000 }, (_, i) => ({
    ...example,
    id: String(i),
    captions: ['a\u2028b\u2029c\r\nd', 'ünï漢'],
  }))
  await writeManifest(file, items)
  expect(await Array.fromAsync(readManifest(file))).toEqual(items)
})

describe('a bad line is told by its number, its field, and what was expected', () => {
  test.each([
    ['{"id": ', 'line 2: expected JSON: '],
    ['[]', 'line 2: expected an object, got []'],
    [{ ...example, width: 0 }, 'line 2: width: expected a whole number from 1 on, got 0'],
    [{ ...example, height: 2.5 }, 'line 2: height: expected a whole number from 1 on, got 2.5'],
    [{ ...example, id: '' }, 'line 2: id: expected a text that is not empty, got ""'],
    [{ ...example, file: 'b.png' }, 'line 2: file: expected an absolute path, got "b.png"'],
    [{ ...example, sha256: 'XYZ' }, 'line 2: sha256: expected 64 hexadecimal digits, got "XYZ"'],
    [{ ...example, captions: 'one' }, 'line 2: captions: expected a list of texts, got "one"'],
    [{ ...example, captions: undefined }, 'line 2: captions: expected a list of texts, got nothing'],
    [
      { ...example, aestheticScore: '5' },
      'line 2: aestheticScore: expected a finite number, or nothing, got "5"',
    ],
    [{ ...example, colour: 'red' }, 'line 2: colour: there is no such field'],
    [example, 'line 2: id: a is there already'],
  ])('%j', async (line, message) => {
    const folder = await temporaryFolder()
    const file = join(folder, 'manifest.jsonl')
    const second = typeof line === 'string' ? line : JSON.stringify(line)
    await writeFile(file, `${JSON.stringify(example)}\n${second}\n`)
    const reading = Array.fromAsync(readManifest(file))
    await expect(reading).rejects.toMatchObject({ name: 'TrainingDataError' })
    await expect(reading).rejects.toThrow(`${file}, ${message}`)
  })

  test('a manifest that is not there', async () => {
    await expect(Array.fromAsync(readManifest('/nowhere/manifest.jsonl'))).rejects.toThrow(
      '/nowhere/manifest.jsonl: expected a readable manifest: ENOENT',
    )
  })
})

test('a manifest is written whole or not at all', async () => {
  const folder = await temporaryFolder()
  const file = join(folder, 'manifest.jsonl')
  await writeManifest(file, [example])
  async function* broken(): AsyncGenerator<TrainingItem> {
    yield { ...example, id: 'b' }
    throw new Error('the source broke')
  }
  await expect(writeManifest(file, broken())).rejects.toThrow('the source broke')
  expect(await Array.fromAsync(readManifest(file))).toEqual([example])
  expect(await readdir(folder)).toEqual(['manifest.jsonl'])
})
