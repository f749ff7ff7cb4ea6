/**
 * A list of words and phrases that no text may hold, found however they are written: in another case or script, with digits for
 * letters, with signs between letters, or spelled out.
 *
 * The list is a tree of letters. A text is walked from each beginning of a word, so that the time does not depend on how long the list is.
 */
import { readFile } from 'node:fs/promises'
import { readings } from './look-alikes.ts'
import { normalise } from './normalise.ts'

export interface BlockList {
  /** @returns the line of the entry that a text holds; undefined when it holds none */
  find(text: string): number | undefined
}

interface Node {
  /** By the next letter; a space stands between two words. */
  readonly next: Map<string, Node>
  /** Where an entry ends. */
  line: number | undefined
}

const inWord = /[\p{L}\p{N}\p{M}]/u
/** So many signs between two letters still leave a word. */
const longestGap = 16

/** @throws {Error} one line that names the file, where it cannot be read or has an entry without letters */
export async function readBlockList(file: string): Promise<BlockList> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    throw new Error(
      `ATELIER_BLOCK_LIST: expected a text file, got ${file}, which cannot be read (${reason})`,
      {
        cause: error,
      },
    )
  }
  try {
    return parseBlockList(text)
  } catch (error) {
    throw new Error(
      `ATELIER_BLOCK_LIST: ${file}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    )
  }
}

/**
 * @param text one entry a line, of one word or several; empty lines and those that begin with # say nothing
 * @throws {Error} that names the line of an entry without letters
 */
export function parseBlockList(text: string): BlockList {
  const root = node()
  for (const [index, entry] of text.split(/\r?\n/).entries()) {
    if (/^\s*(?:#|$)/.test(entry)) continue
    const words = normalise(entry)
      .split(/[^\p{L}\p{N}\p{M}]+/u)
      .filter((word) => word !== '')
    if (words.length === 0) throw new Error(`line ${index + 1}: expected a word, got only signs`)
    let at = root
    for (const letter of words.join(' ')) {
      const known = at.next.get(letter) ?? node()
      at.next.set(letter, known)
      at = known
    }
    at.line ??= index + 1
  }
  return {
    find: (text) => findIn(charactersOf(normalise(text)), root),
  }
}

const node = (): Node => ({ next: new Map(), line: undefined })

/** A text, one code point after the other, and which of them make words. */
interface Characters {
  readonly all: readonly string[]
  readonly areInWords: readonly boolean[]
  /** Those, and signs that hardly stand for anything but a letter. */
  readonly areLetters: readonly boolean[]
}

function charactersOf(text: string): Characters {
  const all = Array.from(text)
  const areInWords = all.map((character) => inWord.test(character))
  return { all, areInWords, areLetters: all.map((sign, at) => areInWords[at]! || '@$€£'.includes(sign)) }
}

function findIn(text: Characters, root: Node): number | undefined {
  for (const start of text.all.keys()) {
    // A ! is read as a letter in front of one, not where somebody shouts.
    const mayBegin = text.areLetters[start] || text.areInWords[start + 1]
    if (!mayBegin || text.areInWords[start - 1]) continue
    const line = walk(text, start, root, 'word') ?? walk(text, start, root, 'spelled')
    if (line !== undefined) return line
  }
  return undefined
}

/**
 * @param manner `word`: signs may stand between letters, but for apostrophes, which real words have; `spelled`: every letter stands
 *   alone, with anything but letters after it
 * @returns the line of an entry that the text goes on with
 */
function walk(text: Characters, at: number, from: Node, manner: 'word' | 'spelled'): number | undefined {
  if (from.line !== undefined && !text.areInWords[at]) return from.line
  const character = text.all[at]
  if (character === undefined) return undefined
  for (const letter of [character, ...(readings.get(character) ?? [])]) {
    const next = from.next.get(letter)
    if (!next) continue
    const line = manner === 'word' ? afterLetter(text, at + 1, next) : afterSpelled(text, at + 1, next)
    if (line !== undefined) return line
  }
  return undefined
}

function afterLetter(text: Characters, at: number, from: Node): number | undefined {
  const adjoining = walk(text, at, from, 'word')
  if (adjoining !== undefined) return adjoining
  const end = endOfGap(text, at)
  if (end === at) return undefined
  const word = from.next.get(' ')
  const line = word && walk(text, end, word, 'word')
  if (line !== undefined) return line
  const isOneWord = !text.all.slice(at, end).some((sign) => /[\s'’]/.test(sign))
  return isOneWord ? walk(text, end, from, 'word') : undefined
}

function afterSpelled(text: Characters, at: number, from: Node): number | undefined {
  if (text.areInWords[at]) return undefined
  if (from.line !== undefined) return from.line
  const end = endOfGap(text, at)
  if (end === at) return undefined
  const word = from.next.get(' ')
  return (word && walk(text, end, word, 'spelled')) ?? walk(text, end, from, 'spelled')
}

/** @returns where the next letter stands, or `at` when none comes soon */
function endOfGap({ areLetters }: Characters, at: number): number {
  for (let end = at; end - at <= longestGap; end++) if (areLetters[end]) return end
  return at
}
