/** Reads a `tokenizer.json` as the SentencePiece model that it was made from. */
import { TokenizerError } from './sentencepiece.ts'
import type { Piece, SentencePieceModel } from './sentencepiece.ts'

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const objects = (value: unknown): readonly Json[] => (Array.isArray(value) ? value.filter(isObject) : [])

/** A normalizer or pre-tokenizer and, when it is a sequence, its members instead. */
const flatten = (value: unknown): readonly Json[] =>
  !isObject(value)
    ? []
    : value['type'] === 'Sequence'
      ? objects(value['normalizers'] ?? value['pretokenizers']).flatMap(flatten)
      : [value]

/** What the converters for T5 write; all but Precompiled say what remove_extra_whitespaces says. */
const knownNormalizers = new Set(['Precompiled', 'Replace', 'Strip'])
const knownPreTokenizers = new Set(['Metaspace', 'WhitespaceSplit'])

/**
 * The format's own runtime normalises by grapheme and differs from SentencePiece on rare strings; we take the
 * vocabulary and the rules from the file and proceed as SentencePiece does, so that both files give the same ids.
 *
 * @throws {TokenizerError} when it is not a unigram model with SentencePiece's normaliser and ▁ for spaces
 */
export function parseTokenizerJson(text: string): SentencePieceModel {
  const json = readObject(text)
  const model = json['model']
  if (!isObject(model) || model['type'] !== 'Unigram' || !Array.isArray(model['vocab'])) {
    throw new TokenizerError('tokenizer.json: expected a model of type Unigram with a vocab')
  }
  if (model['byte_fallback'] === true)
    throw new TokenizerError('tokenizer.json: byte_fallback is not supported')

  const special = new Set<unknown>(
    objects(json['added_tokens']).flatMap((token) => (token['special'] === true ? [token['id']] : [])),
  )
  const unknownId = model['unk_id']
  const pieces = model['vocab'].map((entry: unknown, id): Piece => {
    if (!Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'number') {
      throw new TokenizerError(`tokenizer.json: vocab entry ${id}: expected a piece and its score`)
    }
    const kind = id === unknownId ? 'unknown' : special.has(id) ? 'control' : 'normal'
    return { text: entry[0], score: entry[1], kind }
  })
  if (!pieces.some(({ kind }) => kind === 'unknown')) {
    throw new TokenizerError(
      `tokenizer.json: unk_id: expected a place in the vocab, got ${String(unknownId)}`,
    )
  }

  const normalizers = flatten(json['normalizer'])
  const preTokenizers = flatten(json['pre_tokenizer'])
  refuseUnknown('normalizer', normalizers, knownNormalizers)
  refuseUnknown('pre_tokenizer', preTokenizers, knownPreTokenizers)
  const charsmap = normalizers.find(({ type }) => type === 'Precompiled')?.['precompiled_charsmap']
  const metaspace = preTokenizers.find(({ type }) => type === 'Metaspace')
  if (metaspace === undefined || (metaspace['replacement'] ?? '▁') !== '▁') {
    throw new TokenizerError('tokenizer.json: expected a Metaspace pre_tokenizer with ▁')
  }
  return {
    pieces,
    precompiledCharsmap: typeof charsmap === 'string' ? Buffer.from(charsmap, 'base64') : new Uint8Array(0),
    addDummyPrefix: metaspace['add_prefix_space'] !== false && metaspace['prepend_scheme'] !== 'never',
    removeExtraWhitespaces: true,
  }
}

function readObject(text: string): Json {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new TokenizerError('tokenizer.json: not JSON', { cause })
  }
  if (!isObject(json)) throw new TokenizerError('tokenizer.json: expected an object')
  return json
}

function refuseUnknown(key: string, steps: readonly Json[], known: ReadonlySet<unknown>): void {
  const unknown = steps.find(({ type }) => !known.has(type))
  if (unknown !== undefined) {
    throw new TokenizerError(`tokenizer.json: ${key} of type ${String(unknown['type'])} is not supported`)
  }
}
