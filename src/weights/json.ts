/**
 * A JSON parser for text that JSON.parse is wrong for: safetensors headers, where a key given twice must be an error and not
 * the last one's victory, and files that Python wrote, where `NaN`, `Infinity` and `-Infinity` are numbers.
 */

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject
/** Has no prototype, so that a key `__proto__` is a key like any other. */
export interface JsonObject {
  readonly [key: string]: JsonValue
}

/**
 * `strict`: RFC 8259 with unique names (RFC 7493, section 2.3).
 * `python`: what Python's `json.loads` takes by default: the three non-finite numbers too, and of equal keys the last counts.
 */
export type Dialect = 'strict' | 'python'

export class JsonError extends Error {
  override readonly name = 'JsonError'
  readonly reason: 'syntax' | 'duplicate_key'
  /** Where in the text, in UTF-16 code units from 0. */
  readonly position: number
  readonly expected: string
  readonly got: string

  constructor(reason: JsonError['reason'], position: number, expected: string, got: string) {
    super(`at character ${position}: expected ${expected}, got ${got}`)
    this.reason = reason
    this.position = position
    this.expected = expected
    this.got = got
  }
}

/** serde_json's limit too; deeper text is an attack on the stack. */
const maxDepth = 127
const longestNumber = 1024
const numberForm = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

const words: Readonly<Record<Dialect, ReadonlyMap<string, JsonValue>>> = {
  strict: new Map<string, JsonValue>([
    ['null', null],
    ['true', true],
    ['false', false],
  ]),
  python: new Map<string, JsonValue>([
    ['null', null],
    ['true', true],
    ['false', false],
    ['NaN', NaN],
    ['Infinity', Infinity],
    ['-Infinity', -Infinity],
  ]),
}

/** @throws {JsonError} and nothing else, whatever the text */
export function parseJson(text: string, dialect: Dialect): JsonValue {
  let at = 0

  const fail = (expected: string): never => {
    const got = at < text.length ? JSON.stringify(text.slice(at, at + 16)) : 'the end of the text'
    throw new JsonError('syntax', at, expected, got)
  }

  const skipSpace = () => {
    for (; at < text.length; at++) {
      const character = text[at]
      if (character !== ' ' && character !== '\n' && character !== '\r' && character !== '\t') break
    }
  }

  /** Whether the next character that is no space is this one; then it is taken. */
  const take = (character: string): boolean => {
    skipSpace()
    if (text[at] !== character) return false
    at++
    return true
  }

  const readString = (): string => {
    const start = at
    let end = text.indexOf('"', start + 1)
    while (end !== -1 && isEscaped(text, end)) end = text.indexOf('"', end + 1)
    if (end === -1) return fail('a string that ends')
    at = end + 1
    const literal = text.slice(start, at)
    try {
      return JSON.parse(literal) as string
    } catch {
      at = start
      return fail('a string without raw control characters or unknown escapes')
    }
  }

  const readNumber = (): number => {
    const start = at
    while (at < text.length && '+-.0123456789eE'.includes(text.charAt(at))) at++
    const literal = text.slice(start, at)
    if (literal.length > longestNumber || !numberForm.test(literal)) {
      at = start
      return fail('a number')
    }
    return Number(literal)
  }

  const readArray = (depth: number): JsonValue[] => {
    const items: JsonValue[] = []
    at++
    if (take(']')) return items
    do items.push(readValue(depth))
    while (take(','))
    if (!take(']')) fail('"," or "]"')
    return items
  }

  const readObject = (depth: number): JsonObject => {
    const members: Record<string, JsonValue> = Object.create(null)
    at++
    if (take('}')) return members
    do {
      skipSpace()
      const position = at
      if (text[at] !== '"') fail('a key in double quotes')
      const key = readString()
      if (dialect === 'strict' && key in members) {
        throw new JsonError(
          'duplicate_key',
          position,
          'every key once',
          `${JSON.stringify(key.slice(0, 160))} again`,
        )
      }
      if (!take(':')) fail('":"')
      members[key] = readValue(depth)
    } while (take(','))
    if (!take('}')) fail('"," or "}"')
    return members
  }

  const readValue = (depth: number): JsonValue => {
    skipSpace()
    if (depth > maxDepth) fail(`at most ${maxDepth} levels`)
    const character = text[at]
    if (character === '"') return readString()
    if (character === '{') return readObject(depth + 1)
    if (character === '[') return readArray(depth + 1)
    for (const [word, value] of words[dialect]) {
      if (text.startsWith(word, at)) {
        at += word.length
        return value
      }
    }
    return character !== undefined && '-0123456789'.includes(character) ? readNumber() : fail('a value')
  }

  const value = readValue(0)
  skipSpace()
  if (at < text.length) fail('the end of the text')
  return value
}

/** Whether the character has an odd number of backslashes before it. */
function isEscaped(text: string, position: number): boolean {
  let backslashes = 0
  while (text[position - 1 - backslashes] === '\\') backslashes++
  return backslashes % 2 === 1
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
