import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import { className, styles, vocabulary } from '../../../recipes/emoji/vocabulary.ts'
import { itemCalled } from './renders.ts'

test('an item has its names in every set, and the tags that its name does not say', () => {
  expect(itemCalled('red apple')).toEqual({
    id: '1f34e',
    name: 'red apple',
    tags: ['diet', 'food', 'fruit', 'health', 'ripe'],
    group: 'food-drink',
    subgroup: 'food-fruit',
    icons: { noto: 'red-apple', fluent: 'red-apple', twemoji: 'red-apple' },
  })
})

test('every item has a name of its own and a picture in every set', async () => {
  expect(new Set(vocabulary.map(({ name }) => name)).size).toBe(vocabulary.length)
  expect(vocabulary.length).toBeGreaterThan(1300)
  const sets = { noto: 'noto', fluent: 'fluent-emoji-flat', twemoji: 'twemoji' }
  for (const style of styles) {
    const path = createRequire(import.meta.url).resolve(`@iconify-json/${sets[style]}/icons.json`)
    const { icons } = JSON.parse(await readFile(path, 'utf8')) as { icons: Record<string, unknown> }
    expect(vocabulary.filter((item) => !(item.icons[style] in icons))).toEqual([])
  }
})

test('skin tones, flags and doubles of neutral people are left out', () => {
  const names = vocabulary.map(({ name }) => name)
  expect(names.filter((name) => /skin tone|^flag: |facing right/.test(name))).toEqual([])
  expect(vocabulary.filter(({ id }) => /1f3f[b-f]/.test(id))).toEqual([])
  expect(names).toContain('person juggling')
  expect(names).not.toContain('woman juggling')
  expect(names).toContain('woman')
  expect(names).toContain('woman dancing')
})

test('a class is a style and a subgroup, or the group where the subgroup is small', () => {
  expect(className(itemCalled('red apple'), 'noto')).toBe('noto food-fruit')
  expect(className(itemCalled('spoon'), 'twemoji')).toBe('twemoji other food-drink')
  expect(className(itemCalled('frog'), 'twemoji')).toBe('twemoji animal-reptile')
  const classes = Map.groupBy(vocabulary, (item) => className(item, 'noto'))
  expect([...classes.values()].every((members) => members.length >= 7)).toBe(true)
})
