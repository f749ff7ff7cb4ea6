/** Reads a SentencePiece model file: its pieces, their scores, and how text is normalised before it is cut. */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

export type PieceKind = 'normal' | 'unknown' | 'control' | 'user-defined' | 'unused'

export interface Piece {
  readonly text: string
  readonly score: number
  readonly kind: PieceKind
}

/** A unigram language model over pieces (Kudo 2018, arXiv 1804.10959) and its normaliser. */
export interface SentencePieceModel {
  /** A piece's index is its token id. */
  readonly pieces: readonly Piece[]
  /** Normalisation rules as SentencePiece compiles them; see `createNormaliser`. Empty: text is taken as it is. */
  readonly precompiledCharsmap: Uint8Array
  readonly addDummyPrefix: boolean
  readonly removeExtraWhitespaces: boolean
}

/** A tokenizer's files are missing, damaged, or of a kind that we do not read. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError'
}

// Numbers of fields and types in sentencepiece_model.proto.
const modelField = { pieces: 1, trainerSpec: 2, normalizerSpec: 3 } as const
const pieceField = { piece: 1, score: 2, type: 3 } as const
const trainerField = { modelType: 3, treatWhitespaceAsSuffix: 24, byteFallback: 35 } as const
const normalizerField = {
  precompiledCharsmap: 2,
  addDummyPrefix: 3,
  removeExtraWhitespaces: 4,
  escapeWhitespaces: 5,
} as const
const unigram = 1
const kinds = new Map<number, PieceKind>([
  [1, 'normal'],
  [2, 'unknown'],
  [3, 'control'],
  [4, 'user-defined'],
  [5, 'unused'],
])

/**
 * @param bytes a `spiece.model`: a serialised ModelProto
 * @throws {TokenizerError} when it is damaged, not a unigram model, or made with options that T5's are not made with
 */
export function parseSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  const pieces: Piece[] = []
  let precompiledCharsmap: Uint8Array | undefined
  const flags = { addDummyPrefix: true, removeExtraWhitespaces: true }
  try {
    forEachField(bytes, (field, value) => {
      if (field === modelField.pieces) pieces.push(parsePiece(bytesOf(value)))
      else if (field === modelField.trainerSpec) checkTrainerSpec(bytesOf(value))
      else if (field === modelField.normalizerSpec) {
        precompiledCharsmap ??= new Uint8Array(0)
        forEachField(bytesOf(value), (field, value) => {
          if (field === normalizerField.precompiledCharsmap) precompiledCharsmap = bytesOf(value)
          else if (field === normalizerField.addDummyPrefix) flags.addDummyPrefix = value === 1
          else if (field === normalizerField.removeExtraWhitespaces)
            flags.removeExtraWhitespaces = value === 1
          else if (field === normalizerField.escapeWhitespaces) expectValue('escape_whitespaces', 1, value)
        })
      }
    })
  } catch (cause) {
    if (cause instanceof TokenizerError) throw cause
    throw new TokenizerError('not a SentencePiece model: its protobuf fields cannot be read', { cause })
  }
  if (pieces.filter(({ kind }) => kind === 'unknown').length !== 1) {
    throw new TokenizerError('not a SentencePiece model: expected exactly one piece of type unknown')
  }
  if (precompiledCharsmap === undefined) {
    throw new TokenizerError('not a whole SentencePiece model: it has no normalizer_spec')
  }
  return { pieces, precompiledCharsmap, ...flags }
}

function parsePiece(bytes: Uint8Array): Piece {
  let text = ''
  let score = 0
  let kind: PieceKind = 'normal'
  forEachField(bytes, (field, value) => {
    if (field === pieceField.piece) text = utf8.decode(bytesOf(value))
    else if (field === pieceField.score && typeof value === 'number') score = value
    else if (field === pieceField.type) {
      const known = typeof value === 'number' ? kinds.get(value) : undefined
      if (known === undefined) throw new TokenizerError(`piece type: expected 1 to 5, got ${String(value)}`)
      kind = known
    }
  })
  return { text, score, kind }
}

function checkTrainerSpec(bytes: Uint8Array): void {
  forEachField(bytes, (field, value) => {
    if (field === trainerField.modelType) expectValue('model_type', unigram, value)
    else if (field === trainerField.treatWhitespaceAsSuffix)
      expectValue('treat_whitespace_as_suffix', 0, value)
    else if (field === trainerField.byteFallback) expectValue('byte_fallback', 0, value)
  })
}

function expectValue(name: string, expected: number, value: unknown): void {
  if (value !== expected) throw new TokenizerError(`${name}: expected ${expected}, got ${String(value)}`)
}

/** Keeps a leading U+FEFF, which is text here. */
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Calls `visit` with every field of a protobuf message: numbers of the kinds that occur here, or a field's bytes. */
function forEachField(bytes: Uint8Array, visit: (field: number, value: number | Uint8Array) => void): void {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (wireType === WireType.Varint) visit(field, reader.int32())
    else if (wireType === WireType.Bit32) visit(field, reader.float())
    else if (wireType === WireType.LengthDelimited) visit(field, reader.bytes())
    else reader.skip(wireType, field)
  }
}

function bytesOf(value: number | Uint8Array): Uint8Array {
  if (typeof value === 'number') throw new TokenizerError('expected a nested message, got a number')
  return value
}
