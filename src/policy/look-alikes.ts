/**
 * Letters that look like others, after Unicode's compatibility decomposition, which takes care of full-width, mathematical and
 * circled ones. What is here is of UTS #39's confusables what people type to be read as Latin words.
 */

/** Each string's letters look like the letter that it stands under. */
const looksLike: Readonly<Record<string, string>> = {
  a: 'аαɑᴀλ',
  b: 'ьвβʙƀɓ',
  c: 'сϲᴄƈ',
  d: 'ԁɗđðᴅɖ',
  e: 'еєεəɛᴇҽ℮',
  f: 'ƒғꜰϝ',
  g: 'ɡɢցɠǥԍ',
  h: 'һнհħʜ',
  i: 'іιɩɪӏ',
  j: 'јϳɉᴊ',
  k: 'кκᴋƙқ',
  l: 'ʟłƚɭ',
  m: 'мᴍɱ',
  n: 'пոռɴɲŋ',
  o: 'оοօøᴏθө',
  p: 'рρϸᴘƥ',
  q: 'ԛզɋ',
  r: 'гʀɾяɍ',
  s: 'ѕꜱʂƽ',
  t: 'тτᴛŧƭ',
  u: 'սᴜʋц',
  v: 'ѵᴠ',
  w: 'ѡωԝшщᴡɯ',
  x: 'хχҳ×',
  y: 'уүყʏƴ',
  z: 'ᴢƶʐʑ',
  ae: 'æ',
  oe: 'œ',
  th: 'þ',
}

const letters: ReadonlyMap<string, string> = new Map(
  Object.entries(looksLike).flatMap(([latin, others]) =>
    Array.from(others, (other) => [other, latin] as const),
  ),
)

/** White on black: U+1F150 Ⓐ … in circles, U+1F170 in squares; U+1F1E6 are the letters that flags are made of. */
const alphabets = [0x1f150, 0x1f170, 0x1f1e6]

/** @param character one code point, in small letters @returns the Latin letters that it looks like, or itself */
export function latinOf(character: string): string {
  const known = letters.get(character)
  if (known !== undefined) return known
  const codePoint = character.codePointAt(0) ?? 0
  const first = alphabets.find((start) => codePoint >= start && codePoint < start + 26)
  return first === undefined ? character : String.fromCodePoint(0x61 + codePoint - first)
}

/** What a digit, a sign, or a letter whose small and capital forms look like different ones may be read as inside a word. */
export const readings: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    '0': 'o',
    '1': 'il',
    '2': 'z',
    '3': 'e',
    '4': 'a',
    '5': 's',
    '6': 'bg',
    '7': 't',
    '8': 'b',
    '9': 'g',
    '@': 'a',
    $: 's',
    '!': 'il',
    '|': 'il',
    '€': 'e',
    '£': 'l',
    '+': 't',
    γ: 'ry',
    η: 'hn',
    μ: 'mu',
    ν: 'vn',
    σ: 'oe',
    ς: 'oe',
    υ: 'uy',
    з: 'e',
    б: 'b',
  }).map(([written, letters]) => [written, Array.from(letters)]),
)
