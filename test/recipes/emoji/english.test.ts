import { expect, test } from 'vitest'
import { grammarOf, listed, plural, withArticle } from '../../../recipes/emoji/english.ts'

test.each([
  ['red apple', 'a red apple'],
  ['octopus', 'an octopus'],
  ['unicorn', 'a unicorn'],
  ['ewe', 'a ewe'],
  ['one-piece swimsuit', 'a one-piece swimsuit'],
  ['hourglass', 'an hourglass'],
  ['x-ray', 'an x-ray'],
  ['euro banknote', 'a euro banknote'],
  ['SOS button', 'an SOS button'],
  ['NEW button', 'a NEW button'],
  ['1st place medal', 'a 1st place medal'],
  ['8 ball', 'an 8 ball'],
  ['umbrella', 'an umbrella'],
])('%s is %s', (name, withIts) => {
  expect(withArticle(name)).toBe(withIts)
})

test.each([
  ['red apple', 'red apples'],
  ['face with tears of joy', 'faces with tears of joy'],
  ['person juggling', 'people juggling'],
  ['slightly frowning face', 'slightly frowning faces'],
  ['sad but relieved face', 'sad but relieved faces'],
  ['woman with headscarf', 'women with headscarf'],
  ['snowman without snow', 'snowmen without snow'],
  ["clock at six o'clock", "clocks at six o'clock"],
  ['litter in bin sign', 'litter in bin signs'],
  ['star of David', 'stars of David'],
  ['right arrow curving up', 'right arrows curving up'],
  ['bento box', 'bento boxes'],
  ['strawberry', 'strawberries'],
  ['maple leaf', 'maple leaves'],
  ['tropical fish', 'tropical fish'],
  ['jellyfish', 'jellyfish'],
  ['T-Rex', 'T-Rexes'],
  ['donkey', 'donkeys'],
])('several of %s are %s', (name, several) => {
  expect(plural(name)).toBe(several)
})

test('names that are not counted are told apart', () => {
  expect(grammarOf('red apple', 'food-fruit')).toBe('counted')
  expect(grammarOf('grapes', 'food-fruit')).toBe('bare')
  expect(grammarOf('thumbs up', 'hand-fingers-closed')).toBe('titled')
  expect(grammarOf('Leo', 'zodiac')).toBe('titled')
  expect(grammarOf('OK button', 'alphanum')).toBe('counted')
})

test('lists end with an and', () => {
  expect([[], ['red'], ['red', 'brown'], ['red', 'brown', 'green']].map(listed)).toEqual([
    '',
    'red',
    'red and brown',
    'red, brown and green',
  ])
})
