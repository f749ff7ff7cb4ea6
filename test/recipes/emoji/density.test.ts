import { expect, test } from 'vitest'
import { conceptDensity, nounsOf } from '../../../recipes/emoji/density.ts'

test('nouns are found, and adjectives, verbs and pronouns are not', () => {
  expect(nounsOf('two red apples and a dog on a pale blue background')).toEqual([
    'apples',
    'dog',
    'background',
  ])
  expect(nounsOf('it sits beside the big umbrella')).toEqual(['umbrella'])
})

test('a noun is valid from its eleventh time on', () => {
  const captions = [...Array<string>(10).fill('a dog and an umbrella'), 'a dog', 'a pencil on the table']
  const { validShare, nounsPerCaption, ...counts } = conceptDensity(captions)
  expect(counts).toEqual({ captions: 12, nouns: 23, distinctNouns: 4, validNouns: 1 })
  expect(validShare).toBe(1 / 4)
  expect(nounsPerCaption).toBeCloseTo(23 / 12)
})
