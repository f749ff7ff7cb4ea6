/** Prompts → token ids, as transformers' T5Tokenizer makes them for PixArt's text encoder. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createNormaliser } from './normaliser.ts'
import { parseSentencePieceModel, TokenizerError } from './sentencepiece.ts'
import type { SentencePieceModel } from './sentencepiece.ts'
import { parseTokenizerJson } from './tokenizer-json.ts'
import { createUnigramEncoder } from './unigram.ts'

export { TokenizerError } from './sentencepiece.ts'

/** A prompt as the text encoder takes it. T: the maximal length asked for. */
export interface Tokens {
  readonly ids: Int32Array<ArrayBuffer> // (T)
  /** 1 for a token, 0 for padding. */
  readonly mask: Float32Array<ArrayBuffer> // (T)
  /** Tokens that are not padding, the end of sequence included. */
  readonly length: number
  /** Whether tokens were dropped to stay within T. */
  readonly truncated: boolean
}

export interface Tokenizer {
  /**
   * Padded to `maxLength`, or cut to it with the end-of-sequence token kept last (`padding: max_length, truncation`).
   * The text is taken as it is: lower-case and strip it before.
   */
  readonly encode: (text: string, maxLength: number) => Tokens
}

const endOfSequence = '</s>'
const padding = '<pad>'
/** T5Tokenizer's default for `extra_ids`. */
const defaultExtraIds = 100

/**
 * @param directory a checkpoint's `tokenizer` folder: `spiece.model`, or else `tokenizer.json`
 * @throws {TokenizerError} when there is neither, or what there is cannot be read
 */
export async function openTokenizer(directory: string): Promise<Tokenizer> {
  const spiece = await readIfThere(join(directory, 'spiece.model'))
  if (spiece !== undefined) {
    const config = await readIfThere(join(directory, 'tokenizer_config.json'))
    return createTokenizer(parseSentencePieceModel(spiece), extraIdsOf(config))
  }
  const json = await readIfThere(join(directory, 'tokenizer.json'))
  if (json !== undefined) return createTokenizer(parseTokenizerJson(json.toString()), 0)
  throw new TokenizerError(`${directory}: expected spiece.model or tokenizer.json, found neither`)
}

/**
 * @param extraIds how many `<extra_id_N>` follow the model's pieces, the highest N first
 * @throws {TokenizerError} when the model has no end-of-sequence or padding piece
 */
export function createTokenizer(model: SentencePieceModel, extraIds: number): Tokenizer {
  const normalise = createNormaliser(model)
  const encodePieces = createUnigramEncoder(model)

  // Text that spells a special token is that token, as transformers' tokenizers have it.
  const special = new Map<string, number>()
  model.pieces.forEach(({ text, kind }, id) => {
    if (kind === 'control' || kind === 'unknown') special.set(text, id)
  })
  for (let i = 0; i < extraIds; i++) special.set(`<extra_id_${i}>`, model.pieces.length + extraIds - 1 - i)
  const endId = special.get(endOfSequence)
  const paddingId = special.get(padding)
  if (endId === undefined || paddingId === undefined) {
    throw new TokenizerError(`tokenizer: expected special pieces ${endOfSequence} and ${padding}`)
  }
  const alternatives = [...special.keys()].sort((a, b) => b.length - a.length).map(escapePattern)
  const specialPattern = new RegExp(`(${alternatives.join('|')})`)

  return {
    encode(text, maxLength) {
      if (!Number.isSafeInteger(maxLength) || maxLength < 1) {
        throw new RangeError(`maxLength: expected a whole number from 1 on, got ${maxLength}`)
      }
      const content = text
        .split(specialPattern)
        .flatMap((part) => special.get(part) ?? encodePieces(normalise(part)))
      // The end of sequence is counted as if it were always added, and added unless it is there already.
      const truncated = content.length + 1 > maxLength
      const kept = truncated ? content.slice(0, maxLength - 1) : content
      const tokens = kept.at(-1) === endId ? kept : [...kept, endId]
      const ids = new Int32Array(maxLength).fill(paddingId)
      ids.set(tokens)
      return {
        ids,
        mask: new Float32Array(maxLength).fill(1, 0, tokens.length),
        length: tokens.length,
        truncated,
      }
    },
  }
}

const escapePattern = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

function extraIdsOf(config: Buffer | undefined): number {
  if (config === undefined) return defaultExtraIds
  let json: unknown
  try {
    json = JSON.parse(config.toString())
  } catch (cause) {
    throw new TokenizerError('tokenizer_config.json: not JSON', { cause })
  }
  const count = (json as { extra_ids?: unknown } | null)?.extra_ids ?? defaultExtraIds
  if (typeof count !== 'number' || !Number.isSafeInteger(count) || count < 0) {
    throw new TokenizerError(
      `tokenizer_config.json: extra_ids: expected a whole number, got ${JSON.stringify(count)}`,
    )
  }
  return count
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
