import sharp from 'sharp'
import { expect, test } from 'vitest'
import { previewSteps } from '../../src/generation/events.ts'
import { encodePreview } from '../../src/generation/images.ts'
import { paint } from './paint-pool.ts'

test.each([
  ['none when none are asked for', undefined, 20, []],
  ['one every so many steps, none after the last', { everySteps: 5 }, 20, [5, 10, 15]],
  ['every step but the last', { everySteps: 1 }, 4, [1, 2, 3]],
  ['none where there are fewer steps', { everySteps: 30 }, 20, []],
  ['one partial image in the middle', { partialImages: 1 }, 20, [10]],
  ['partial images evenly', { partialImages: 3 }, 20, [5, 10, 15]],
  ['no more partial images than there are steps before the last', { partialImages: 3 }, 2, [1]],
  ['none of a single step', { partialImages: 3 }, 1, []],
  ['none when 0 are asked for', { partialImages: 0 }, 20, []],
])('previews: %s', (_, wish, steps, expected) => {
  expect(previewSteps(wish, steps)).toEqual(expected)
})

test('a preview is a WebP of the pixels, as large as they are', async () => {
  const [width, height] = [40, 24]
  const flat = new Uint8Array(width * height * 3).fill(200)
  const { bytes, ...size } = await encodePreview({ pixels: flat, width, height }, { width, height })
  expect(size).toEqual({ width, height })
  expect(await sharp(bytes).metadata()).toMatchObject({ format: 'webp', width, height })
  const read = await sharp(bytes).raw().toBuffer()
  expect(Math.max(...read.map((value) => Math.abs(value - 200)))).toBeLessThanOrEqual(2)
  const noise = paint({ seed: 1, seedIndex: 0, width, height })
  const preview = await encodePreview({ pixels: noise, width, height }, { width, height })
  expect(preview.bytes.length).toBeLessThan(noise.length)
})

test.each([
  ['is not enlarged with the picture', { width: 1024, height: 1024 }, { width: 32, height: 32 }],
  ['shows what will be cut out of the picture', { width: 1000, height: 300 }, { width: 32, height: 10 }],
  ['is cut alone where the picture is', { width: 20, height: 32 }, { width: 20, height: 32 }],
  ['is reduced with a picture that is smaller still', { width: 16, height: 16 }, { width: 16, height: 16 }],
  ['has one pixel at least', { width: 64, height: 2 }, { width: 32, height: 1 }],
])('a preview %s', async (_, asked, expected) => {
  const pixels = paint({ seed: 1, seedIndex: 0, width: 32, height: 32 })
  const { bytes, ...size } = await encodePreview({ pixels, width: 32, height: 32 }, asked)
  expect(size).toEqual(expected)
  expect(await sharp(bytes).metadata()).toMatchObject(expected)
})
