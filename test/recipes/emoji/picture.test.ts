import { expect, test } from 'vitest'
import { backgroundCalled } from '../../../recipes/emoji/colour.ts'
import { paint } from '../../../recipes/emoji/picture.ts'
import { filled, place, shrunk } from '../../../src/evaluation/picture.ts'
import { fewRenders, itemCalled } from './renders.ts'

test('an opaque square covers pixels by the share of them that it covers', () => {
  const sprite = { width: 7, height: 7, pixels: new Uint8Array(7 * 7 * 4).fill(255) }
  const picture = { width: 8, height: 8, pixels: filled(64, [0, 100, 200]) }
  // From 1.5 to 4.25 across, and 2 to 4.75 down.
  place(picture, sprite, { centreX: 2.875, centreY: 3.375, width: 2.75, height: 2.75 })
  const cover = (at: number, low: number, high: number) =>
    Math.max(0, Math.min(at + 1, high) - Math.max(at, low))
  for (let y = 0; y < 8; y++)
    for (let x = 0; x < 8; x++)
      for (const [channel, under] of [0, 100, 200].entries()) {
        const share = cover(x, 1.5, 4.25) * cover(y, 2, 4.75)
        const expected = share * 255 + (1 - share) * under
        expect(Math.abs(picture.pixels[(y * 8 + x) * 3 + channel]! - expected)).toBeLessThanOrEqual(0.51)
      }
})

test('what is half transparent is blended, and what lies outside is cut off', () => {
  // Red at half alpha, multiplied already.
  const sprite = { width: 1, height: 1, pixels: Uint8Array.of(128, 0, 0, 128) }
  const picture = { width: 2, height: 1, pixels: filled(2, [255, 255, 255]) }
  place(picture, sprite, { centreX: 2, centreY: 0.5, width: 2, height: 1 })
  expect([...picture.pixels]).toEqual([255, 255, 255, 255, 127, 127])
})

test('shrinking keeps the mean', () => {
  const pixels = Uint8Array.from({ length: 40 * 20 * 4 }, (_, at) => (at * 37) % 256)
  const small = shrunk({ width: 40, height: 20, pixels }, 10)
  expect([small.width, small.height]).toEqual([10, 5])
  const mean = (values: Uint8Array) => values.reduce((sum, value) => sum + value, 0) / values.length
  expect(Math.abs(mean(small.pixels) - mean(pixels))).toBeLessThan(0.5)
})

test('a painted icon has its colours where it was put, and the background elsewhere', async () => {
  await using renders = await fewRenders()
  const item = itemCalled('red circle')
  const background = backgroundCalled('pale blue')
  const picture = await paint(
    {
      width: 96,
      height: 64,
      style: 'twemoji',
      background,
      layout: { kind: 'one', placement: 'left', size: 'medium' },
      objects: [{ item, centreX: 30, centreY: 32, width: 40, height: 40 }],
    },
    renders.sprite.bind(renders),
  )
  const at = (x: number, y: number) => [...picture.pixels.subarray((y * 96 + x) * 3, (y * 96 + x) * 3 + 3)]
  const fourOf = (rgb: readonly number[]) => Array.from({ length: 4 }, () => [...rgb])
  // Twemoji's red is #DD2E44.
  expect(at(30, 32)).toEqual([0xdd, 0x2e, 0x44])
  expect([at(0, 0), at(95, 63), at(52, 32), at(30, 10)]).toEqual(fourOf(background.rgb))
  expect([at(12, 32), at(48, 32), at(30, 14), at(30, 50)]).toEqual(fourOf([0xdd, 0x2e, 0x44]))
})

test('an icon knows its colours, and on what it would vanish', async () => {
  await using renders = await fewRenders()
  const apple = renders.appearance('twemoji', itemCalled('red apple').id)
  expect(apple.colours[0]![0]).toBe('red')
  expect(apple.colours[0]![1]).toBeGreaterThan(0.8)
  expect(apple.vanishesOn).toContain('red')
  expect(apple.vanishesOn).not.toContain('white')
  expect(() => renders.appearance('noto', 'none')).toThrow('item: expected one that is rendered, got none')
})
