/** Caption cleaning as the captions of the training data were cleaned. */
import { fixText } from './fix-text.ts'
import { textOfHtml, unescapeHtml } from './html.ts'
import { lower, pythonPattern, strip } from './python-text.ts'

/** One replacement; the tables below are applied from top to bottom, so their order matters. */
type Rule = readonly [pattern: RegExp, replacement: string]
const rule = (pattern: string, replacement = ''): Rule => [pythonPattern(pattern), replacement]
const apply = (text: string, rules: readonly Rule[]): string =>
  rules.reduce((rest, [pattern, replacement]) => rest.replaceAll(pattern, replacement), text)

const domain = String.raw`[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w\/\-]*\b\/?(?!@)`
const imageExtension = 'png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4'

const urls: readonly Rule[] = [
  rule('<person>', 'person'),
  rule(String.raw`\b(?:https?:(?:\/{1,3}|[a-zA-Z0-9%])|${domain})`),
  rule(String.raw`\b(?:www:(?:\/{1,3}|[a-zA-Z0-9%])|${domain})`),
]

const symbols: readonly Rule[] = [
  // Nicknames.
  rule(String.raw`@\w+\b`),
  // CJK strokes, phonetic extensions, enclosed and compatibility forms, ideographs, hexagrams.
  rule(String.raw`[\u31c0-\u9fff]+`),
  // All kinds of dashes, quotes and apostrophes become one of each.
  rule(
    String.raw`[\u002D\u058A\u05BE\u1400\u1806\u2010-\u2015\u2E17\u2E1A\u2E3A\u2E3B\u2E40\u301C\u3030\u30A0\uFE31\uFE32\uFE58\uFE63\uFF0D]+`,
    '-',
  ),
  rule('[`´«»“”¨]', '"'),
  rule('[‘’]', "'"),
  rule('&quot;?'),
  rule('&amp'),
  // Network addresses, article numbers, escaped line breaks, hash and long numbers, file names.
  rule(String.raw`\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}`, ' '),
  rule(String.raw`\d:\d\d\s+$`),
  rule(String.raw`\\n`, ' '),
  rule(String.raw`#\d{1,3}\b`),
  rule(String.raw`#\d{5,}\b`),
  rule(String.raw`\b\d{6,}\b`),
  rule(String.raw`\S+\.(?:${imageExtension})`),
  // Repeated punctuation and decoration.
  rule(String.raw`["']{2,}`, '"'),
  rule(String.raw`[.]{2,}`, ' '),
  rule(String.raw`[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\\/*]+`, ' '),
  rule(String.raw`\s+\.\s+`, ' '),
]

const noise: readonly Rule[] = [
  // Part numbers and the like: jc6640, jc6640vc, 6640vc231.
  rule(String.raw`\b[a-zA-Z]{1,3}\d{3,15}\b`),
  rule(String.raw`\b[a-zA-Z]+\d+[a-zA-Z]+\b`),
  rule(String.raw`\b\d+[a-zA-Z]+\d+\b`),
  // What shops and picture agencies write.
  rule(String.raw`(?:worldwide\s+)?(?:free\s+)?shipping`),
  rule(String.raw`(?:free\s)?download(?:\sfree)?`),
  rule(String.raw`\bclick\b\s(?:for|on)\s\w+`),
  rule(String.raw`\b(?:${imageExtension})(?:\simage[s]?)?`),
  rule(String.raw`\bpage\s+\d+\b`),
  rule(String.raw`\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b`, ' '),
  // Sizes, with a Latin x, a Cyrillic one, or a multiplication sign.
  rule(String.raw`\b\d+\.?\d*[xх×]\d+\.?\d*\b`),
  // Space around punctuation.
  rule(String.raw`\b\s+:\s+`, ': '),
  rule(String.raw`(\D[,.\/])\b`, '$1 '),
  rule(String.raw`\s+`, ' '),
  // What encloses, begins or ends the whole.
  rule(String.raw`^["']([^]+)["']$`, '$1'),
  rule(String.raw`^['_,\-:;]`),
  rule(String.raw`['_,\-:+]$`),
  rule(String.raw`^\.\S+$`),
]

const joiners = /[-_]/g

/**
 * diffusers' PixArtAlphaPipeline._clean_caption, once: percent-decoding, lower case, URLs, HTML, nicknames, ideographs,
 * dashes and quotes to one kind, numbers and words of shops and picture agencies. Not reproduced: ftfy's repair of
 * wrongly decoded text (see `fixText`) and BeautifulSoup's recovery from broken markup (see `textOfHtml`).
 */
export function cleanCaption(caption: string): string {
  const plain = textOfHtml(apply(lower(strip(unquotePlus(caption))), urls))
  const even = apply(plain, symbols)
  const spaced = (even.match(joiners)?.length ?? 0) > 3 ? even.replaceAll(joiners, ' ') : even
  return strip(apply(unescapeHtml(unescapeHtml(fixText(spaced))), noise))
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Python's `urllib.parse.unquote_plus`: bytes that are no UTF-8 become U+FFFD, "%" before anything else stays. */
function unquotePlus(text: string): string {
  return text
    .replaceAll('+', ' ')
    .replaceAll(/(?:%[\da-f]{2})+/gi, (bytes) =>
      utf8.decode(Uint8Array.from(bytes.slice(1).split('%'), (digits) => Number.parseInt(digits, 16))),
    )
}
