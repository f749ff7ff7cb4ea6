/**
 * The default model's vocabulary as a SentencePiece unigram model: every word of its captions is a piece, and what is left of the
 * places goes to beginnings and ends of words, so that a word that no caption has is cut into few pieces.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { Piece } from '../../src/text/sentencepiece.ts'

/** Stands for the space before a word. */
const space = '\u2581'
/** As T5 numbers them: padding is token 0, the end of a text 1. */
const special: readonly Piece[] = [
  { text: '<pad>', score: 0, kind: 'control' },
  { text: '</s>', score: 0, kind: 'control' },
  { text: '<unk>', score: 0, kind: 'unknown' },
]
/** What a text may be made of without a token for unknown characters. */
const characters = 'abcdefghijklmnopqrstuvwxyz0123456789.,:;!?\'"()&/+-%#’“”é'.split('')
const affixLengths = [2, 3, 4, 5, 6]

/**
 * Scores are log probabilities: of words by how often they are there; affixes and characters are so unlikely that a word that is a
 * piece is never cut, and a word that is none is cut into as few as can be.
 * @param captions as they are trained on
 * @param size pieces; @throws {RangeError} when there are more words and characters than that
 */
export function makePieces(captions: Iterable<string>, size: number): readonly Piece[] {
  const counts = new Map<string, number>()
  for (const caption of captions)
    for (const part of partsOf(caption)) counts.set(part, (counts.get(part) ?? 0) + 1)
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
  const alphabet = [space, ...characters, ...characters.map((each) => space + each)]
  const words = [...counts].sort(([one, n], [other, m]) => m - n || (one < other ? -1 : 1))
  const known = new Set([...counts.keys(), ...alphabet])
  const left = size - special.length - known.size
  if (left < 0)
    throw new RangeError(`size: expected at least ${size - left} for this vocabulary, got ${size}`)
  const affixes = commonAffixes(counts.keys(), known).slice(0, left)
  const rare = Math.log(1 / total)
  return [
    ...special,
    ...words.map(([text, count]): Piece => ({ text, score: Math.log(count / total), kind: 'normal' })),
    ...affixes.map((text): Piece => ({ text, score: rare - 1, kind: 'normal' })),
    ...alphabet
      .filter((text) => !counts.has(text))
      .map((text): Piece => ({ text, score: rare - 3, kind: 'normal' })),
  ]
}

/** "a dog, sitting" → "▁a", "▁dog", ",", "▁sitting" */
function partsOf(caption: string): readonly string[] {
  return caption
    .toLowerCase()
    .split(/\s+/)
    .flatMap((word) =>
      (word.match(/[\p{L}\p{N}]+(?:['’][\p{L}]+)?|[^\p{L}\p{N}]/gu) ?? []).map((part, index) =>
        index === 0 ? space + part : part,
      ),
    )
}

/** Beginnings and ends of words, those first that save most letters in most words. */
function commonAffixes(words: Iterable<string>, known: ReadonlySet<string>): readonly string[] {
  const saved = new Map<string, number>()
  for (const word of words)
    for (const length of affixLengths) {
      if (word.length <= length) continue
      for (const affix of [word.slice(0, length), word.slice(-length)])
        if (!known.has(affix)) saved.set(affix, (saved.get(affix) ?? 0) + length - 1)
    }
  return [...saved].sort(([one, n], [other, m]) => m - n || (one < other ? -1 : 1)).map(([affix]) => affix)
}

/** `spiece.model` and what transformers' T5Tokenizer wants beside it. */
export async function writeTokenizer(folder: string, pieces: readonly Piece[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'spiece.model'), serialised(pieces))
  const config = {
    tokenizer_class: 'T5Tokenizer',
    eos_token: '</s>',
    pad_token: '<pad>',
    unk_token: '<unk>',
    extra_ids: 0,
    model_max_length: 512,
    legacy: true,
  }
  await writeFile(join(folder, 'tokenizer_config.json'), `${JSON.stringify(config, undefined, 2)}\n`)
}

const kindNumbers: Readonly<Record<Piece['kind'], number>> = {
  normal: 1,
  unknown: 2,
  control: 3,
  'user-defined': 4,
  unused: 5,
}

/** Fields and numbers of sentencepiece_model.proto. */
function serialised(pieces: readonly Piece[]): Uint8Array {
  const model = new BinaryWriter()
  for (const { text, score, kind } of pieces) {
    model.tag(1, WireType.LengthDelimited).fork()
    model.tag(1, WireType.LengthDelimited).string(text)
    model.tag(2, WireType.Bit32).float(score)
    model.tag(3, WireType.Varint).int32(kindNumbers[kind])
    model.join()
  }
  const idOf = (text: string) => pieces.findIndex((piece) => piece.text === text)
  model.tag(2, WireType.LengthDelimited).fork()
  model.tag(3, WireType.Varint).int32(1) // unigram
  model.tag(4, WireType.Varint).int32(pieces.length)
  model.tag(40, WireType.Varint).int32(idOf('<unk>'))
  model.tag(41, WireType.Varint).int32(-1) // no beginning of sentence
  model.tag(42, WireType.Varint).int32(idOf('</s>'))
  model.tag(43, WireType.Varint).int32(idOf('<pad>'))
  model.join()
  model.tag(3, WireType.LengthDelimited).fork()
  model.tag(1, WireType.LengthDelimited).string('identity')
  for (const field of [3, 4, 5]) model.tag(field, WireType.Varint).bool(true)
  model.join()
  return model.finish()
}
