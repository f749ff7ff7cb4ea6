import { expect, test } from 'vitest'
import {
  backgroundCalled,
  backgrounds,
  nearestBackground,
  partColourName,
} from '../../../recipes/emoji/colour.ts'
import { colourDistance, oklab } from '../../../src/evaluation/oklab.ts'

test('no two backgrounds can be taken for each other', () => {
  const tooNear = backgrounds.flatMap((one, index) =>
    backgrounds.slice(index + 1).filter((other) => colourDistance(one.lab, other.lab) < 0.075),
  )
  expect(tooNear).toEqual([])
})

test('a background that is a little off keeps its name', () => {
  for (const { name, rgb } of backgrounds) {
    const [red, green, blue] = rgb.map((value) => Math.min(255, Math.max(0, value + (value > 128 ? -6 : 6))))
    expect(nearestBackground(oklab(red!, green!, blue!)).name).toBe(name)
  }
  expect(() => backgroundCalled('mauve')).toThrow(/^background: expected one of white, /)
})

test.each([
  [[220, 20, 30], 'red'],
  [[255, 205, 50], 'yellow'],
  [[130, 85, 60], 'brown'],
  [[20, 20, 20], 'black'],
  [[250, 250, 250], 'white'],
  [[60, 150, 60], 'green'],
  [[30, 110, 210], 'blue'],
] as const)('parts of %j are called %s', ([red, green, blue], name) => {
  expect(partColourName(red, green, blue)).toBe(name)
})
