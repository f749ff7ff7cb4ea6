import { afterAll, beforeAll, expect, test } from 'vitest'
import { backgroundCalled } from '../../recipes/emoji/colour.ts'
import { Draws } from '../../recipes/emoji/draws.ts'
import { Galleries } from '../../recipes/emoji/gallery.ts'
import type { Renders } from '../../recipes/emoji/render.ts'
import { styles, type Style } from '../../recipes/emoji/vocabulary.ts'
import { featureCount, featureDistance, nearest, see } from '../../src/evaluation/features.ts'
import { colourDistance } from '../../src/evaluation/oklab.ts'
import { filled, place, type Picture } from '../../src/evaluation/picture.ts'
import { fewRenders, itemCalled } from '../recipes/emoji/renders.ts'

let renders: Renders
beforeAll(async () => {
  renders = await fewRenders()
})
afterAll(async () => renders[Symbol.asyncDispose]())

async function pictureOf(
  style: Style,
  id: string,
  { background = 'white', x = 64, y = 64, side = 90, noise = 0 } = {},
): Promise<Picture> {
  const sprite = await renders.sprite(style, id)
  const picture = { width: 128, height: 128, pixels: filled(128 * 128, backgroundCalled(background).rgb) }
  const scale = side / Math.max(sprite.width, sprite.height)
  place(picture, sprite, {
    centreX: x,
    centreY: y,
    width: sprite.width * scale,
    height: sprite.height * scale,
  })
  const draws = new Draws(1)
  return {
    ...picture,
    pixels: picture.pixels.map((value) => Math.min(255, Math.max(0, value + draws.between(-noise, noise)))),
  }
}

test('the background is measured and the box is found, with noise as without', async () => {
  for (const noise of [0, 20]) {
    const { background, box } = see(
      await pictureOf('twemoji', itemCalled('red circle').id, {
        background: 'pale green',
        x: 40,
        y: 80,
        side: 40,
        noise,
      }),
    )
    expect(colourDistance(background, backgroundCalled('pale green').lab)).toBeLessThan(0.01)
    for (const [found, expected] of [
      [box!.left, 20],
      [box!.right, 60],
      [box!.top, 60],
      [box!.bottom, 100],
    ] as const)
      expect(Math.abs(found - expected)).toBeLessThanOrEqual(2)
  }
})

test('an empty picture has no box and no features', () => {
  const { box, features } = see({ width: 40, height: 20, pixels: filled(800, [10, 200, 30]) })
  expect(box).toBeUndefined()
  expect(features).toEqual(new Float32Array(featureCount))
})

test('place, size and noise hardly change the features; another item or style does', async () => {
  const [apple, rocket] = [itemCalled('red apple').id, itemCalled('rocket').id]
  const features = async (...options: Parameters<typeof pictureOf>) =>
    see(await pictureOf(...options)).features
  const one = await features('noto', apple)
  const moved = featureDistance(one, await features('noto', apple, { x: 50, y: 70, side: 60, noise: 15 }))
  expect(moved).toBeLessThan(0.4 * featureDistance(one, await features('fluent', apple)))
  expect(moved).toBeLessThan(0.2 * featureDistance(one, await features('noto', rocket)))
})

test('items find themselves among all, distorted and on a background that it is not kept on', async () => {
  const galleries = new Galleries(renders)
  const background = backgroundCalled('purple')
  for (const style of styles) {
    const gallery = await galleries.of(style, background)
    for (const { id } of renders.items.slice(0, 6)) {
      const { features } = see(
        await pictureOf(style, id, { background: 'purple', x: 58, y: 70, side: 70, noise: 20 }),
      )
      const [first, second] = nearest(features, gallery, 2)
      expect(first!.id).toBe(id)
      expect(first!.distance).toBeLessThan(second!.distance)
    }
  }
})
