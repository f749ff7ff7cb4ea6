/** Repairs of text that came through careless hands: the ones of ftfy that need no guess at an encoding. */
import { unescapeHtml } from './html.ts'

/** Letters that hold several, each before what it holds. */
const ligatures = new Map(
  'ĳij ĲIJ ŉʼn ǄDŽ ǅDž ǆdž ǇLJ ǈLj ǉlj ǊNJ ǋNj ǌnj ǱDZ ǲDz ǳdz ﬀff ﬁfi ﬂfl ﬃffi ﬄffl ﬅſt ﬆst'
    .split(' ')
    .map((pair): [string, string] => [pair.slice(0, 1), pair.slice(1)]),
)
const ligature = new RegExp(`[${[...ligatures.keys()].join('')}]`, 'gu')

/** Terminal escapes, in the colours and cursor moves that get copied along with text. */
const terminalEscape = /\x1b\[(?:\d+;?)*[A-Za-z]?/g // oxlint-disable-line no-control-regex
const controlCharacter = /[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g // oxlint-disable-line no-control-regex

/**
 * `ftfy.fix_text` without its repairs of wrongly decoded text (mojibake, C1 controls): character references where the
 * text has no "<", ligatures, full- and half-width forms, curly quotes, line breaks, terminal escapes, control
 * characters, and NFC, until nothing changes.
 */
export function fixText(text: string): string {
  let fixed = text
  for (;;) {
    const before = fixed
    if (!fixed.includes('<')) fixed = fixed.replaceAll(/&#?[\dA-Za-z]{1,24};/g, unescapeHtml)
    fixed = fixed
      .replaceAll(ligature, (character) => ligatures.get(character)!)
      .replaceAll(/[\u3000\uff01-\uffef]/g, (character) => character.normalize('NFKC'))
      .replaceAll(/[\u02bc\u2018-\u201b]/g, "'")
      .replaceAll(/[\u201c-\u201f]/g, '"')
      .replaceAll(/\r\n|[\r\u2028\u2029\x85]/g, '\n')
      .replaceAll(terminalEscape, '')
      .replaceAll(controlCharacter, '')
      .normalize('NFC')
    if (fixed === before) return fixed
  }
}
