/** What a key is made of. */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { faultOf, hashOf, newKeyText, prefixOf } from '../../src/access/key-text.ts'

test('keys are of one form, and no two are alike', () => {
  const keys = Array.from({ length: 1000 }, newKeyText)
  expect(keys.filter((key) => !/^atl_[0-9A-Za-z]{46}$/.test(key))).toEqual([])
  expect(keys.map(faultOf).filter((fault) => fault !== undefined)).toEqual([])
  expect(new Set(keys).size).toBe(1000)
  expect(new Set(keys.map(hashOf)).size).toBe(1000)
})

test('what is not shown of a key has more than 178 random bits, each character of which may be any', () => {
  const seen = Array.from({ length: 40 }, () => new Set<string>())
  for (let round = 0; round < 2000; round++)
    newKeyText()
      .slice(4, 44)
      .split('')
      .forEach((character, place) => seen[place]?.add(character))
  expect(seen.map(({ size }) => size)).toEqual(Array.from({ length: 40 }, () => 62))
  const hidden = 40 - (prefixOf(newKeyText()).length - 'atl_'.length)
  expect(hidden * Math.log2(62)).toBeGreaterThan(178)
})

const key = fc.constant(undefined).map(newKeyText)
const character = fc.constantFrom(
  ...Array.from('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'),
)

test('one wrong, missing, doubled or swapped character is told from a key that is not known', () => {
  fc.assert(
    fc.property(key, fc.integer({ min: 4, max: 49 }), character, (text, place, other) => {
      const [before, at, after] = [text.slice(0, place), text.charAt(place), text.slice(place + 1)]
      const next = after.charAt(0)
      const wrong = [`${before}${other}${after}`, `${before}${after}`, `${before}${at}${at}${after}`]
      if (next !== '') wrong.push(`${before}${next}${at}${after.slice(1)}`)
      for (const typed of wrong) expect(faultOf(typed)).toBe(typed === text ? undefined : 'mistyped')
    }),
  )
})

test.each(['', 'none', 'sk-proj-abc', 'ATL_x', ' '])('%j is nothing like a key', (text) => {
  expect(faultOf(text)).toBe('malformed')
})
