import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createNormaliser } from '../../src/text/normaliser.ts'
import { parseSentencePieceModel } from '../../src/text/sentencepiece.ts'
import { parseTokenizerJson } from '../../src/text/tokenizer-json.ts'
import { createTokenizer, openTokenizer, TokenizerError } from '../../src/text/tokenizer.ts'
import type { Tokenizer } from '../../src/text/tokenizer.ts'
import { createUnigramEncoder } from '../../src/text/unigram.ts'
import { readFixture } from '../safetensors.ts'

const fixture = (path: string) => fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url))
const readJson = (path: string) => JSON.parse(readFileSync(fixture(path), 'utf8')) as unknown
const folder = fixture('golden/tiny-512/checkpoint/tokenizer')
const spiece = readFileSync(join(folder, 'spiece.model'))
const model = parseSentencePieceModel(spiece)

let tokenizer: Tokenizer
let scratch: string
beforeAll(async () => {
  tokenizer = await openTokenizer(folder)
  scratch = await mkdtemp(join(tmpdir(), 'atelier-tokenizer-'))
})
afterAll(() => rm(scratch, { recursive: true }))

const anyText = fc
  .array(fc.integer({ min: 0, max: 0x10ffff }), { maxLength: 20 })
  .map((codes) => String.fromCodePoint(...codes))

/** The ids before padding, without the end of sequence. */
const contentOf = (text: string, from = tokenizer) => {
  const { ids, length } = from.encode(text, 4096)
  return [...ids.subarray(0, length - 1)]
}

describe("equals transformers' T5Tokenizer", () => {
  test.each(['tiny-512', 'tiny-1024-ms'])('on every prompt of %s', async (name) => {
    const golden = readFixture(`golden/${name}/golden.safetensors`)
    const { prompts } = readJson(`golden/${name}/golden.json`) as { prompts: string[] }
    const { encode } = await openTokenizer(fixture(`golden/${name}/checkpoint/tokenizer`))
    const encoded = prompts.map((prompt) => encode(prompt.toLowerCase().trim(), 120))
    expect(encoded.flatMap(({ ids }) => [...ids])).toEqual(Array.from(golden.get('tokens.ids')!.data, Number))
    expect(encoded.flatMap(({ mask }) => [...mask])).toEqual(
      Array.from(golden.get('tokens.mask')!.data, Number),
    )
    expect(encoded.map(({ truncated }) => truncated)).toEqual([false, false, false, false, false, true])
  })
})

describe('equals SentencePiece', () => {
  const { basicPlaneSha256, strings } = readJson('text/sentencepiece.json') as {
    basicPlaneSha256: string
    strings: [string, number[]][]
  }
  const normalise = createNormaliser(model)
  const encode = createUnigramEncoder(model)

  test('on 1,500 odd strings', () => {
    expect(strings).toHaveLength(1500)
    expect(strings.map(([text]) => [text, encode(normalise(text))])).toEqual(strings)
  })

  test('on every character of the basic plane, between two letters', () => {
    const hash = createHash('sha256')
    for (let unit = 0; unit < 0x10000; unit++) {
      if (unit >= 0xd800 && unit < 0xe000) continue
      hash.update(JSON.stringify(encode(normalise(`a${String.fromCharCode(unit)}b`))))
    }
    expect(hash.digest('hex')).toBe(basicPlaneSha256)
  })

  test('before 0.2.2 on ties: sums are in double and kept as float32', () => {
    // "ee" + "e" and "e" + "ee" have the same exact score; float32 sums would choose the second.
    const pieces = (text: string) => encode(normalise(text)).map((id) => model.pieces[id]!.text)
    expect(pieces('pickereee')).toEqual(
      ['▁pick', 'er', 'ee', 'e'].slice(0, 0).concat(pieces('picker'), ['ee', 'e']),
    )
  })
})

describe('a prompt', () => {
  test('is padded with zeros, and its mask says where', () => {
    const { ids, mask, length, truncated } = tokenizer.encode('a red cat', 12)
    expect(truncated).toBe(false)
    expect(ids[length - 1]).toBe(1)
    expect([...ids.subarray(length)].every((id) => id === 0)).toBe(true)
    expect([...mask]).toEqual(Array.from({ length: 12 }, (_, i) => (i < length ? 1 : 0)))
  })

  test('that is too long keeps its end of sequence', () => {
    const whole = contentOf('one two three four five six')
    const { ids, length, truncated } = tokenizer.encode('one two three four five six', 4)
    expect([...ids]).toEqual([...whole.slice(0, 3), 1])
    expect([length, truncated]).toEqual([4, true])
  })

  test('that just fits is not truncated', () => {
    const whole = contentOf('one two three')
    expect(tokenizer.encode('one two three', whole.length + 1).truncated).toBe(false)
    expect(tokenizer.encode('one two three', whole.length).truncated).toBe(true)
  })

  test.each(['', ' ', '\t \n', '\u3000'])(
    'of nothing but space (%j) is the end of sequence alone',
    (text) => {
      expect(tokenizer.encode(text, 3)).toEqual({
        ids: Int32Array.of(1, 0, 0),
        mask: Float32Array.of(1, 0, 0),
        length: 1,
        truncated: false,
      })
    },
  )

  test('that spells special tokens has them, and each part between begins like a text', () => {
    expect(contentOf('a </s> b')).toEqual([...contentOf('a'), 1, ...contentOf('b')])
    expect(contentOf('<pad>x<unk>')).toEqual([0, ...contentOf('x'), 2])
  })

  test('that ends in the end of sequence gets no second one', () => {
    const { ids, length } = tokenizer.encode('a</s>', 10)
    expect([...ids.subarray(0, length)]).toEqual([...contentOf('a'), 1])
  })

  test('can name the extra ids that follow the pieces', () => {
    const withExtra = createTokenizer(model, 100)
    expect(contentOf('<extra_id_0> a <extra_id_99>', withExtra)).toEqual([2099, ...contentOf('a'), 2000])
    expect(contentOf('<extra_id_0>')).not.toContain(2099)
  })

  test.each([0, -1, 1.5])('cannot have a length of %d', (maxLength) => {
    expect(() => tokenizer.encode('a', maxLength)).toThrow(/^maxLength: expected a whole number from 1 on/)
  })

  test('of any characters gives ids of the vocabulary', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const { ids, mask, length } = tokenizer.encode(text, 120)
        expect(ids.every((id) => id >= 0 && id < model.pieces.length)).toBe(true)
        expect(mask.reduce((sum, value) => sum + value, 0)).toBe(length)
        expect(ids[length - 1]).toBe(1)
      }),
    )
  })

  test('with lone surrogates is read as if they were U+FFFD', () => {
    expect(contentOf('a\ud800b')).toEqual(contentOf('a\ufffdb'))
  })
})

describe('tokenizer.json', () => {
  const specialIds = [0, 1, 2]
  const json = {
    version: '1.0',
    added_tokens: specialIds.map((id) => ({ id, content: model.pieces[id]!.text, special: true })),
    normalizer: {
      type: 'Precompiled',
      precompiled_charsmap: Buffer.from(model.precompiledCharsmap).toString('base64'),
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'WhitespaceSplit' },
        { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
      ],
    },
    model: { type: 'Unigram', unk_id: 2, vocab: model.pieces.map(({ text, score }) => [text, score]) },
  }

  test('of the same model gives the same ids on odd strings', async () => {
    await writeFile(join(scratch, 'tokenizer.json'), JSON.stringify(json))
    const fromJson = await openTokenizer(scratch)
    const piece = fc.constantFrom(...model.pieces.slice(3).map(({ text }) => text.replaceAll('▁', ' ')))
    const odd = fc.array(fc.oneof(piece, anyText), { maxLength: 12 })
    fc.assert(
      fc.property(odd, (parts) => {
        expect(fromJson.encode(parts.join(''), 120)).toEqual(tokenizer.encode(parts.join(''), 120))
      }),
      { numRuns: 1000 },
    )
  })

  test.each([
    [
      'a newer Metaspace',
      { pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' } },
    ],
    [
      'a sequence of normalizers',
      {
        normalizer: {
          type: 'Sequence',
          normalizers: [json.normalizer, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: '▁' }],
        },
      },
    ],
  ])('may have %s', (_, part) => {
    const other = createTokenizer(parseTokenizerJson(JSON.stringify({ ...json, ...part })), 0)
    expect(contentOf('Ⅳ naïve  cafés', other)).toEqual(contentOf('Ⅳ naïve  cafés'))
  })

  test.each([
    ['not JSON', '{', 'not JSON'],
    ['another model', { ...json, model: { type: 'BPE', vocab: {} } }, 'expected a model of type Unigram'],
    [
      'another normalizer',
      { ...json, normalizer: { type: 'NFKC' } },
      'normalizer of type NFKC is not supported',
    ],
    ['no Metaspace', { ...json, pre_tokenizer: { type: 'WhitespaceSplit' } }, 'expected a Metaspace'],
    ['a damaged vocab', { ...json, model: { ...json.model, vocab: [['a']] } }, 'vocab entry 0'],
    ['no unknown piece', { ...json, model: { ...json.model, unk_id: null } }, 'unk_id'],
  ])('with %s is refused', (_, content, message) => {
    const text = typeof content === 'string' ? content : JSON.stringify(content)
    expect(() => parseTokenizerJson(text)).toThrow(TokenizerError)
    expect(() => parseTokenizerJson(text)).toThrow(message)
  })
})

describe('a spiece.model', () => {
  test('has the pieces, kinds and flags that it was trained with', () => {
    expect(model.pieces).toHaveLength(2000)
    expect(model.pieces.slice(0, 4).map(({ text, kind }) => [text, kind])).toEqual([
      ['<pad>', 'control'],
      ['</s>', 'control'],
      ['<unk>', 'unknown'],
      ['s', 'normal'],
    ])
    expect(model.precompiledCharsmap).toHaveLength(237561)
    expect([model.addDummyPrefix, model.removeExtraWhitespaces]).toEqual([true, true])
  })

  test('that is damaged is refused, wherever it was cut', () => {
    for (const length of [0, 1, 10, 1000, 20_000]) {
      expect(() => createTokenizer(parseSentencePieceModel(spiece.subarray(0, length)), 0)).toThrow(
        TokenizerError,
      )
    }
    expect(() => parseSentencePieceModel(Buffer.from('PNG\u0000'.repeat(9)))).toThrow(TokenizerError)
  })

  test('with a broken charsmap is refused', () => {
    const broken = { ...model, precompiledCharsmap: model.precompiledCharsmap.subarray(0, 5000) }
    expect(() => createNormaliser(broken)).toThrow('precompiled_charsmap: its trie does not fit')
  })

  test('missing from its folder is an error that names the folder', async () => {
    const empty = join(scratch, 'empty')
    await expect(openTokenizer(empty)).rejects.toThrow(`${empty}: expected spiece.model or tokenizer.json`)
  })
})

test('user-defined pieces are kept whole, whatever the normaliser and the scores say', () => {
  const pieces = [...model.pieces, { text: 'Ⅳcat', score: 0, kind: 'user-defined' as const }]
  const withSymbol = createTokenizer({ ...model, pieces }, 0)
  expect(contentOf('a Ⅳcat b', withSymbol)).toEqual([...contentOf('a'), 5, 2000, ...contentOf('b')])
})
