/** The text of HTML: character references decoded, and markup left out, as Python's libraries do it. */
import namedReferences from './html-entities.json' with { type: 'json' }

const named = new Map(Object.entries(namedReferences))

/** Windows-1252, which references to 0x80 … 0x9F mean in HTML. */
const windows1252 = new TextDecoder('windows-1252')

/** Code points that a reference gives nothing for: controls and noncharacters. */
const isDropped = (code: number) =>
  (code >= 0x1 && code <= 0x8) ||
  code === 0xb ||
  (code >= 0xe && code <= 0x1f) ||
  (code >= 0x7f && code <= 0x9f) ||
  (code >= 0xfdd0 && code <= 0xfdef) ||
  (code & 0xfffe) === 0xfffe

function numericReference(digits: string): string {
  const isHex = /^x/i.test(digits)
  const code = Number.parseInt(isHex ? digits.slice(1) : digits, isHex ? 16 : 10)
  if (code === 0) return '\ufffd'
  if (code === 0x0d) return '\r'
  if (code >= 0x80 && code <= 0x9f) return windows1252.decode(Uint8Array.of(code))
  if ((code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return '\ufffd'
  return isDropped(code) ? '' : String.fromCodePoint(code)
}

/** Python's `html.unescape`: HTML5's rules, so that the longest known name counts and ";" may be missing. */
export function unescapeHtml(text: string): string {
  return text.replaceAll(
    /&(?:#(\d+|x[\da-f]+);?|([^\t\n\f <&#;]{1,32};?))/giu,
    (whole, digits?: string, name = '') => {
      if (digits !== undefined) return numericReference(digits)
      const length = longestName(name)
      return length === undefined ? whole : named.get(name.slice(0, length))! + name.slice(length)
    },
  )
}

/** How much of `text` is the name of a character, of two letters or more. */
function longestName(text: string): number | undefined {
  for (let length = text.length; length > 1; length--) if (named.has(text.slice(0, length))) return length
  return undefined
}

/** Elements whose text BeautifulSoup does not count as text. */
const silent = new Set(['script', 'style', 'template', 'rt', 'rp'])
/** Elements inside of which nothing but their own end is markup. */
const raw = new Set(['script', 'style'])

/**
 * `BeautifulSoup(markup, 'html.parser').text` for what captions hold: tags, comments, declarations and the contents of
 * script and style go, character references are decoded, "<" that starts no tag stays. Not reproduced: how the parser
 * recovers from constructs that do not end.
 */
export function textOfHtml(markup: string): string {
  let out = ''
  let at = 0
  let inside: string | undefined
  const add = (text: string) => {
    if (inside === undefined) out += text
  }
  while (at < markup.length) {
    const open = markup.indexOf('<', at)
    const textEnd = open === -1 ? markup.length : open
    add(decodeReferences(markup.slice(at, textEnd), open === -1 ? 'end' : 'more'))
    if (open === -1) break
    at = textEnd
    const isRaw = inside !== undefined && raw.has(inside)
    const tag = /^<(\/?)([a-z][^\s/>\0]*)/i.exec(markup.slice(at, at + 64))
    const name = tag?.[2]?.toLowerCase()
    const isEnd = tag?.[1] === '/'
    const after = isRaw && !(isEnd && name === inside) ? -1 : markupEnd(markup, at, tag !== null)
    if (after === -1) {
      add('<')
      at++
      continue
    }
    if (markup.startsWith('<![cdata[', at)) add(markup.slice(at + 9, after - 3))
    else if (isEnd && name === inside) inside = undefined
    else if (!isEnd && name !== undefined && silent.has(name)) inside ??= name
    at = after
  }
  return out
}

/** Where the tag, comment or declaration that starts at `at` ends, or -1 when nothing of that kind does. */
function markupEnd(markup: string, at: number, isTag: boolean): number {
  const past = (end: string, from: number) => {
    const found = markup.indexOf(end, from)
    return found === -1 ? -1 : found + end.length
  }
  if (isTag) return markup[at + 1] === '/' ? past('>', at) : startTagEnd(markup, at)
  if (markup.startsWith('<!--', at)) return past('-->', at + 4)
  if (markup.startsWith('<![cdata[', at)) return past(']]>', at)
  return /^<[!?/]/.test(markup.slice(at, at + 2)) ? past('>', at) : -1
}

/** A start tag ends at the first ">" outside of a quoted attribute value. */
function startTagEnd(markup: string, at: number): number {
  for (let i = at; i < markup.length; i++) {
    const character = markup[i]!
    if (character === '>') return i + 1
    const isQuote = character === '"' || character === "'"
    if (isQuote && /=\s*$/.test(markup.slice(Math.max(at, i - 8), i))) {
      const close = markup.indexOf(character, i + 1)
      if (close === -1) return -1
      i = close
    }
  }
  return -1
}

/**
 * References as html.parser finds them and BeautifulSoup decodes them: a name is ASCII and known, or stays; at the very
 * end of the markup a reference needs its ";".
 */
function decodeReferences(text: string, followedBy: 'more' | 'end'): string {
  return text.replaceAll(
    /&(?:#(\d+|x[\da-f]+);?|([a-z][-.a-z\d]*);?)/gi,
    (whole: string, digits: string | undefined, name: string | undefined, position: number) => {
      const isCutOff = followedBy === 'end' && position + whole.length === text.length && !whole.endsWith(';')
      if (isCutOff) return whole
      if (digits !== undefined) return numericReference(digits)
      const character = named.get(`${name};`)
      if (character !== undefined) return character
      return whole.endsWith(';') ? whole.slice(0, -1) : whole
    },
  )
}
