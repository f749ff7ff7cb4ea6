import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { preparePrompt } from '../../src/text/prompt.ts'
import { lower, pythonPattern, strip } from '../../src/text/python-text.ts'

interface PythonCase {
  readonly whitespace: readonly number[]
  /** Every character that `str.lower` changes, each followed by what it becomes, separated by spaces. */
  readonly lower: string
  readonly sigma: readonly (readonly [text: string, lowered: string])[]
}

const python = JSON.parse(
  readFileSync(new URL('../fixtures/text/python-case.json', import.meta.url), 'utf8'),
) as PythonCase

const allCharacters = Array.from({ length: 0x110000 }, (_, code) => code)
  .filter((code) => code < 0xd800 || code > 0xdfff)
  .map((code) => String.fromCodePoint(code))

describe('lower() is that of Python', () => {
  test('on every character that Unicode 14 knows', () => {
    const expected = new Map(
      python.lower.split(' ').map((pair) => {
        const [character, ...lowered] = pair
        return [character!, lowered.join('')]
      }),
    )
    // Letters that came after Unicode 14, which the reference leaves alone: Garay, Beria Erfeh, and some Latin ones.
    const newer = /[\u1c89\ua7cb-\ua7dc\u{10d50}-\u{10d65}\u{16ea0}-\u{16eb8}]/u
    const wrong = allCharacters.filter(
      (character) => lower(character) !== (expected.get(character) ?? character) && !newer.test(character),
    )
    expect(wrong).toEqual([])
    expect(expected.size).toBe(1433)
  })

  test('on sigma at the end of a word, whatever stands around it', () => {
    for (const [text, lowered] of python.sigma) expect(lower(text)).toBe(lowered)
  })

  test('on İ, which becomes two characters', () => {
    expect(lower('İ')).toBe('i\u0307')
  })
})

describe('strip() is that of Python', () => {
  test('on every character', () => {
    const stripped = allCharacters.filter((character) => strip(character) === '')
    expect(stripped.map((character) => character.codePointAt(0))).toEqual(python.whitespace)
  })

  test('at both ends, not inside', () => {
    expect(strip('\x1c \u0085a \x1f b\u3000\n')).toBe('a \x1f b')
    expect(strip('\ufeffa\u200b')).toBe('\ufeffa\u200b')
    expect(strip(' \t ')).toBe('')
  })
})

describe("a pattern means what Python's re means", () => {
  test.each([
    [String.raw`\d+`, 'a١٢b3', ['١٢', '3']],
    [String.raw`\b\w+\b`, 'naïve_café, 漢字!', ['naïve_café', '漢字']],
    [String.raw`[\w\-]+`, 'é-è à', ['é-è', 'à']],
    [String.raw`\s`, 'a\x1cb\ufeffc\x85', ['\x1c', '\x85']],
    [String.raw`\S\D`, '1a 2', ['1a']],
  ])('%s', (pattern, text, matches) => {
    expect(text.match(pythonPattern(pattern))).toEqual(matches)
  })
})

test('a prompt is lower-cased, then stripped, or cleaned', () => {
  expect(preparePrompt('  A Cat—"IT" \x1c', { cleanCaption: false })).toBe('a cat—"it"')
  expect(preparePrompt('  A <b>Cat</b> @nick  (large)', { cleanCaption: true })).toBe('a cat large')
})
