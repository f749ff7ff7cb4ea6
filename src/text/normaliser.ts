/** SentencePiece's text normaliser: replaces by compiled rules, collapses spaces, and marks them with ▁. */
import type { SentencePieceModel } from './sentencepiece.ts'
import { TokenizerError } from './sentencepiece.ts'

/** Stands for a space inside pieces. */
const spaceSymbol = '▁'
const space = 0x20
const utf8Encoder = new TextEncoder()
/** Keeps a leading U+FEFF, which is text here. */
const utf8Decoder = new TextDecoder('utf-8', { ignoreBOM: true })
const spaceSymbolBytes = utf8Encoder.encode(spaceSymbol)

/** What the beginning of some text becomes. */
interface Replacement {
  readonly text: Uint8Array
  /** How many bytes it stands for. */
  readonly consumed: number
}

/**
 * Reproduces `normalizer::Normalizer::Normalize` of SentencePiece 0.1.97 with escape_whitespaces set: at each place the
 * longest rule applies (user-defined pieces stay as they are), spaces at both ends go and runs of them become one
 * (remove_extra_whitespaces), a space is put before the text (add_dummy_prefix), and each space becomes ▁.
 * Lone surrogates count as U+FFFD.
 */
export function createNormaliser(model: SentencePieceModel): (text: string) => string {
  const rules = readCharsmap(model.precompiledCharsmap)
  const userDefined = model.pieces
    .filter(({ kind }) => kind === 'user-defined')
    .map(({ text }) => utf8Encoder.encode(text))
    .sort((a, b) => b.length - a.length)

  const replacementAt = (input: Uint8Array, at: number): Replacement => {
    const kept = userDefined.find((piece) => piece.every((byte, i) => input[at + i] === byte))
    if (kept !== undefined) return { text: kept, consumed: kept.length }
    const rule = rules(input, at)
    if (rule !== undefined) return rule
    const consumed = characterLength(input[at]!)
    return { text: input.subarray(at, at + consumed), consumed }
  }

  const afterLeadingSpaces = (input: Uint8Array): number => {
    let at = 0
    while (at < input.length) {
      const { text, consumed } = replacementAt(input, at)
      if (text.length !== 1 || text[0] !== space) break
      at += consumed
    }
    return at
  }

  return (text) => {
    const input = utf8Encoder.encode(text)
    const { removeExtraWhitespaces } = model
    const output: number[] = []
    let at = removeExtraWhitespaces ? afterLeadingSpaces(input) : 0
    if (at === input.length) return ''
    if (model.addDummyPrefix) output.push(...spaceSymbolBytes)
    let dropsSpaces = removeExtraWhitespaces
    while (at < input.length) {
      const { text, consumed } = replacementAt(input, at)
      at += consumed
      const start = dropsSpaces ? text.findIndex((byte) => byte !== space) : 0
      if (start === -1 || text.length === 0) continue
      for (let i = start; i < text.length; i++) {
        if (text[i] === space) output.push(...spaceSymbolBytes)
        else output.push(text[i]!)
      }
      dropsSpaces = removeExtraWhitespaces && text.at(-1) === space
    }
    const normalised = utf8Decoder.decode(Uint8Array.from(output))
    return removeExtraWhitespaces ? normalised.replace(/▁+$/, '') : normalised
  }
}

/** Bytes of the UTF-8 character that starts with this one. */
function characterLength(lead: number): number {
  if (lead < 0x80) return 1
  if (lead < 0xe0) return 2
  return lead < 0xf0 ? 3 : 4
}

/**
 * A precompiled charsmap: length of a trie in bytes, the trie, then the replacements, each ended by a zero byte.
 * The trie is a Darts-clone double array of 32-bit units: label in bits 0–7 and 31, offset in bits 10–30 (times 256
 * when bit 9 is set), bit 8 says that a value hangs below. The value is where the replacement starts.
 *
 * @returns looks up the longest rule that applies to the bytes from a place on
 */
function readCharsmap(charsmap: Uint8Array): (input: Uint8Array, at: number) => Replacement | undefined {
  if (charsmap.length === 0) return () => undefined
  const view = new DataView(charsmap.buffer, charsmap.byteOffset, charsmap.byteLength)
  const trieBytes = charsmap.length < 4 ? 0 : view.getUint32(0, true)
  if (trieBytes < 1024 || trieBytes % 4 !== 0 || trieBytes > charsmap.length - 4) {
    throw new TokenizerError('precompiled_charsmap: its trie does not fit')
  }
  const units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true))
  const replacements = charsmap.subarray(4 + trieBytes)
  const replacement = (start: number) => replacements.subarray(start, replacements.indexOf(0, start))

  const hasValue = (unit: number) => ((unit >>> 8) & 1) === 1
  const value = (unit: number) => unit & 0x7fffffff
  const label = (unit: number) => unit & 0x800000ff
  const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6)

  return (input, at) => {
    let found: Replacement | undefined
    let node = offset(units[0]!)
    for (let i = at; i < input.length; i++) {
      node ^= input[i]!
      const unit = units[node]
      if (unit === undefined || label(unit) !== input[i]) break
      node ^= offset(unit)
      if (hasValue(unit)) found = { text: replacement(value(units[node]!)), consumed: i + 1 - at }
    }
    return found
  }
}
