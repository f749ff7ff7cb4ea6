import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cleanCaption } from '../../src/text/clean-caption.ts'
import { fixText } from '../../src/text/fix-text.ts'
import { textOfHtml, unescapeHtml } from '../../src/text/html.ts'
import { preparePrompt } from '../../src/text/prompt.ts'
import { strip } from '../../src/text/python-text.ts'

const { captions } = JSON.parse(
  readFileSync(new URL('../fixtures/text/clean-caption.json', import.meta.url), 'utf8'),
) as { captions: [caption: string, cleaned: string][] }

const anyText = fc
  .array(fc.oneof(fc.integer({ min: 0, max: 0x17f }), fc.integer({ min: 0, max: 0x10ffff })), {
    maxLength: 80,
  })
  .map((codes) => String.fromCodePoint(...codes))

describe('cleaning a caption', () => {
  test('twice gives what diffusers gives with BeautifulSoup and ftfy, on 1,500 made of what the rules look for', () => {
    expect(captions).toHaveLength(1500)
    const ours = captions.map(([caption]) => [caption, preparePrompt(caption, { cleanCaption: true })])
    expect(ours).toEqual(captions)
  })

  test.each([
    ['A%20cat+on%20a mat', 'a cat on a mat'],
    ['“quoted” – dashes', '"quoted" - dashes'],
    ['see https://example.com/a for more', 'see for more'],
    ['by @artist, 漢字 poster', 'by , poster'],
    ['this-is-my-cute-cat', 'this is my cute cat'],
    ['free shipping worldwide', 'worldwide'],
    ['a 10x20 print, 3.5×4', 'a print,'],
    ["'a quoted whole'", 'a quoted whole'],
    ['***SALE*** (now)', 'sale now'],
  ])('%j gives %j', (caption, cleaned) => {
    expect(cleanCaption(caption)).toBe(cleaned)
  })

  test('takes any text, and what is left has no space at its ends', () => {
    fc.assert(
      fc.property(anyText, (caption) => {
        const cleaned = cleanCaption(caption)
        expect(cleaned).toBe(strip(cleaned))
      }),
    )
  })
})

describe("the text of HTML is BeautifulSoup's", () => {
  test.each([
    ['a <b>bold</b> cat', 'a bold cat'],
    ['a<br/>b<!-- c -->d<!doctype html>e', 'abde'],
    ['a<script>if (a<b) x="</b>"</script>b', 'ab'],
    ['<template>a<b>c</b></template>d<style>e</style>', 'd'],
    ['<a title="x>y" href=z>link</a>', 'link'],
    ['1 < 2 > 1, a<b', '1 < 2 > 1, a<b'],
    ['&lt;b&gt; &amp; &eacute;&unknown; &#x27;&#65;', "<b> & é&unknown 'A"],
    ['<![cdata[ kept ]]>!', ' kept !'],
  ])('%j gives %j', (markup, text) => {
    expect(textOfHtml(markup)).toBe(text)
  })
})

describe("unescaping is Python's", () => {
  test.each([
    ['&amp;amp;', '&amp;'],
    ['&notit;', '¬it;'],
    ['&notin;', '∉'],
    ['&#128;&#x80;', '€€'],
    ['&#0;&#xD800;&#x110000;', '\ufffd\ufffd\ufffd'],
    ['&#1;&#xfdd0;&#xffff;', ''],
    ['&nothing &; &#;', '¬hing &; &#;'],
    ['&AMP&gt;', '&>'],
  ])('%j gives %j', (text, unescaped) => {
    expect(unescapeHtml(text)).toBe(unescaped)
  })
})

describe('repairing text', () => {
  test.each([
    ['ﬁne ﬄ Ĳ', 'fine ffl IJ'],
    ['ｆｕｌｌ　ｶﾞ', 'full ガ'],
    ['“a” ‘b’', '"a" \'b\''],
    ['a\r\nb\u2028c\rd', 'a\nb\nc\nd'],
    ['\x1b[31mred\x1b[0m\x00\ufeff', 'red'],
    ['e\u0301', 'é'],
    ['&eacute;&lt;', 'é<'],
    ['<p>&eacute;', '<p>&eacute;'],
  ])('%j gives %j', (text, fixed) => {
    expect(fixText(text)).toBe(fixed)
  })
})
