/** Python's ideas of white space, letters and digits, where they differ from JavaScript's. */

/** What `str.isspace` holds for: unlike JavaScript's \s with U+001C–1F and U+0085, and without U+FEFF. */
const whitespace = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`
const word = String.raw`\p{L}\p{N}_`

const leadingSpace = new RegExp(`^[${whitespace}]+`, 'u')
const spaceCharacter = new RegExp(`^[${whitespace}]$`, 'u')

/** `str.strip()`. */
export function strip(text: string): string {
  let end = text.length
  while (end > 0 && spaceCharacter.test(text[end - 1]!)) end--
  return text.slice(0, end).replace(leadingSpace, '')
}

/** `str.lower()`: JavaScript's full case mapping is the same, final sigma and İ included. */
export const lower = (text: string): string => text.toLowerCase()

/**
 * A pattern of Python's `re` for str: \w, \d, \s, \b and their opposites mean what they mean there, everywhere else it
 * must be a pattern of JavaScript with the flag u. Matches all occurrences.
 */
export function pythonPattern(source: string): RegExp {
  let isInClass = false
  const translated = source.replaceAll(/\\.|[[\]]/g, (token) => {
    if (token === '[' || token === ']') {
      isInClass = token === '['
      return token
    }
    switch (token) {
      case String.raw`\w`:
        return isInClass ? word : `[${word}]`
      case String.raw`\s`:
        return isInClass ? whitespace : `[${whitespace}]`
      case String.raw`\S`:
        return `[^${whitespace}]`
      case String.raw`\d`:
        return String.raw`\p{Nd}`
      case String.raw`\D`:
        return String.raw`\P{Nd}`
      case String.raw`\b`:
        return `(?:(?<=[${word}])(?![${word}])|(?<![${word}])(?=[${word}]))`
      default:
        return token
    }
  })
  return new RegExp(translated, 'gu')
}
