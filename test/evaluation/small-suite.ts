/** A suite of few items, and models that draw it well or badly. */
import sharp from 'sharp'
import { makeSuite } from '../../recipes/emoji/suite.ts'
import { curatedStyle } from '../../recipes/emoji/recipes.ts'
import type { Renders } from '../../recipes/emoji/render.ts'
import { judgeAll, ordersOf, sightAll, type Evaluation, type Order } from '../../src/evaluation/evaluate.ts'
import { filled, place, type Picture } from '../../src/evaluation/picture.ts'
import type { Suite } from '../../src/evaluation/suite.ts'

/** Of the pictures: half of what the default model paints, for speed. */
const side = 64

export const smallSuite = (renders: Renders): Promise<Suite> =>
  makeSuite(renders, { seed: 1, size: side, named: 8, heldOut: 6, renders: 40 })

const never = new AbortController().signal

/** @returns the render that was asked for, or of `instead`, where and on what it was asked for */
export async function drawn(
  renders: Renders,
  { prompt: { expect } }: Order,
  instead?: string,
): Promise<Picture> {
  const picture = {
    width: side,
    height: side,
    pixels: filled(side * side, expect.background?.rgb ?? [255, 255, 255]),
  }
  const sprite = await renders.sprite(curatedStyle, instead ?? expect.item!)
  const scale = (side * (expect.placement ? 0.36 : 0.84)) / Math.max(sprite.width, sprite.height)
  const { x, y } = expect.placement ?? { x: 0.5, y: 0.5 }
  place(picture, sprite, {
    centreX: side * x,
    centreY: side * y,
    width: sprite.width * scale,
    height: sprite.height * scale,
  })
  return picture
}

export async function blurred(
  { pixels, width, height }: Picture,
  standardDeviation: number,
): Promise<Picture> {
  const raw = { raw: { width, height, channels: 3 } } as const
  return { width, height, pixels: await sharp(pixels, raw).blur(standardDeviation).raw().toBuffer() }
}

export async function evaluated(
  suite: Suite,
  model: (order: Order) => Promise<Picture>,
): Promise<Evaluation> {
  const orders = ordersOf(suite, {})
  const sightings = await sightAll(orders, model, never)
  return judgeAll(orders, sightings, suite, { signal: never, onJudged: () => undefined })
}

/** @returns hits and tries of every measure, by group */
export const hitsOf = ({ groups }: Evaluation) =>
  Object.fromEntries(
    groups.map(({ group, shares }) => [
      group,
      Object.fromEntries([...shares].map(([measure, { hits, of }]) => [measure, `${hits}/${of}`])),
    ]),
  )
