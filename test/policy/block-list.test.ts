/** Words of a list, found in every dress, and no others. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseBlockList, readBlockList } from '../../src/policy/block-list.ts'
import { normalise } from '../../src/policy/normalise.ts'
import { temporaryFolder } from '../storage/folders.ts'

const list = parseBlockList('# weapons\n\nbomb\nkill\n  Bad  Word \nill\nνεκρός\nоружие')

test.each([
  ['a bomb, painted', 3],
  ['BOMB', 3],
  ['b.o.m.b', 3],
  ['b--o--m--b!', 3],
  ['b o m b', 3],
  ['b0mb', 3],
  ['𝓫𝓸𝓶𝓫', 3],
  ['ｂｏｍｂ', 3],
  ['ⓑⓞⓜⓑ', 3],
  ['🅱🅾🅼🅱', 3],
  ['bоmb with a Cyrillic o', 3],
  ['ΒΟΜΒ', 3],
  ['b\u200bo\u2060m\u00adb', 3],
  ['b\u0301o\u0308mb', 3],
  ['_bomb_', 3],
  ['k1ll', 4],
  ['k!ll', 4],
  ['k|LL!', 4],
  ['bad word', 5],
  ['B4D--w0rd', 5],
  ['b a d  w o r d', 5],
  ['ΝΕΚΡΟΣ', 7],
  ['ОРУЖИЕ', 8],
])('%s is found', (text, line) => {
  expect(list.find(text)).toBe(line)
})

test.each([
  'bombs',
  'bombastic',
  'abomb',
  'bo mb',
  'badword',
  'bad',
  "I'll",
  'she’ll go',
  'skill',
  '',
  '!!!',
  'b',
  'b o m',
])('%s is none of them', (text) => {
  expect(list.find(text)).toBeUndefined()
})

test('normalised text is its own normal form', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
      const once = normalise(text)
      expect(normalise(once)).toBe(once)
    }),
    { numRuns: 2000 },
  )
})

/** Ways to write a letter that people read as that letter. */
const dresses: readonly ((letter: string) => string)[] = [
  (letter) => letter,
  (letter) => letter.toUpperCase(),
  (letter) => String.fromCodePoint(0xff41 + letter.charCodeAt(0) - 97),
  (letter) => String.fromCodePoint(0x1d41a + letter.charCodeAt(0) - 97),
  (letter) => String.fromCodePoint(0x24d0 + letter.charCodeAt(0) - 97),
  (letter) => `${letter}\u0301`,
  (letter) => `${letter}\u200d`,
  (letter) => ({ a: 'а', c: 'с', e: 'е', o: 'о', p: 'р', x: 'х', i: 'і', s: 'ѕ' })[letter] ?? letter,
  (letter) => ({ a: '4', e: '3', i: '1', o: '0', s: '$', l: '1', t: '7' })[letter] ?? letter,
]
const letters = Array.from('abcdefghijklmnopqrstuvwxyz')
const word = fc.string({ unit: fc.constantFrom(...letters), minLength: 3, maxLength: 10 })

test('a word is found in any mixture of dresses, with one sign between all letters or none', () => {
  fc.assert(
    fc.property(
      word.chain((entry) =>
        fc.record({
          entry: fc.constant(entry),
          dressed: fc.tuple(
            ...Array.from(entry, (letter) => fc.constantFrom(...dresses).map((dress) => dress(letter))),
          ),
          sign: fc.constantFrom('', '.', '-', '*', '__', ' '),
        }),
      ),
      ({ entry, dressed, sign }) => {
        expect(parseBlockList(entry).find(`a (${dressed.join(sign)}) b`)).toBe(1)
      },
    ),
    { numRuns: 2000 },
  )
})

test('plain words that are not on the list pass', () => {
  fc.assert(
    fc.property(word, fc.array(word, { maxLength: 8 }), (entry, others) => {
      fc.pre(!others.includes(entry))
      expect(parseBlockList(entry).find(others.join(' '))).toBeUndefined()
    }),
    { numRuns: 2000 },
  )
})

test('a file that is not there, and an entry without letters, are told in one line', async () => {
  const folder = temporaryFolder()
  const file = join(folder, 'list.txt')
  await expect(readBlockList(file)).rejects.toThrow(
    `ATELIER_BLOCK_LIST: expected a text file, got ${file}, which cannot be read (ENOENT)`,
  )
  await writeFile(file, 'word\n***\n')
  await expect(readBlockList(file)).rejects.toThrow(
    `ATELIER_BLOCK_LIST: ${file}: line 2: expected a word, got only signs`,
  )
})
