import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makePieces, writeTokenizer } from '../../../recipes/emoji/tokenizer.ts'
import { parseSentencePieceModel } from '../../../src/text/sentencepiece.ts'
import { openTokenizer } from '../../../src/text/tokenizer.ts'
import { temporaryFolder } from '../../weights/folder.ts'

const captions = [
  "a red apple on a white background, fluent style, theme: fruit, food and o'clock",
  'two red apples side by side; against a pale blue backdrop',
  'a horse-drawn cart (old) in noto style',
]
const pieces = makePieces(captions, 300)

async function written() {
  const folder = await temporaryFolder()
  await writeTokenizer(folder, pieces)
  const tokenizer = await openTokenizer(folder)
  return {
    bytes: await readFile(join(folder, 'spiece.model')),
    cut: (text: string): readonly string[] => {
      const { ids, length } = tokenizer.encode(text, 64)
      return [...ids.subarray(0, length)].map((id) => pieces[id]!.text)
    },
  }
}

test('what is written is what is read, piece by piece', async () => {
  const read = parseSentencePieceModel((await written()).bytes)
  expect(read.pieces.map(({ text, kind }) => ({ text, kind }))).toEqual(
    pieces.map(({ text, kind }) => ({ text, kind })),
  )
  for (const [id, { score }] of read.pieces.entries()) expect(score).toBe(Math.fround(pieces[id]!.score))
  expect(new Set(pieces.map(({ text }) => text)).size).toBe(pieces.length)
  expect(pieces.length).toBeLessThanOrEqual(300)
})

test('every word of a caption is one token', async () => {
  const { cut } = await written()
  expect(cut('two red apples, side by side')).toEqual('▁two ▁red ▁apples , ▁side ▁by ▁side </s>'.split(' '))
  expect(cut("o'clock")).toEqual(["▁o'clock", '</s>'])
  expect(cut('horse-drawn')).toEqual(['▁horse', '-', 'drawn', '</s>'])
})

test('other words are cut into known pieces, and characters that none has are unknown', async () => {
  const { cut } = await written()
  expect(cut('zebra 7')).not.toContain('<unk>')
  expect(cut('zebra 7').slice(0, -1).join('')).toBe('▁zebra▁7')
  expect(cut('backed').length).toBeLessThan(1 + 'backed'.length)
  expect(cut('赤')).toContain('<unk>')
})

test('a vocabulary that does not fit is refused', () => {
  expect(() => makePieces(captions, 100)).toThrow(
    /^size: expected at least \d+ for this vocabulary, got 100$/,
  )
})
