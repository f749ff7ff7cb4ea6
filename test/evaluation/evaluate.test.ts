import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { curatedStyle } from '../../recipes/emoji/recipes.ts'
import type { Renders } from '../../recipes/emoji/render.ts'
import { ordersOf, sightAll, type Order } from '../../src/evaluation/evaluate.ts'
import { fewestPictures, fitGaussian, projected } from '../../src/evaluation/frechet.ts'
import { filled, type Picture } from '../../src/evaluation/picture.ts'
import type { Suite } from '../../src/evaluation/suite.ts'
import { fewRenders } from '../recipes/emoji/renders.ts'
import { blurred, drawn, evaluated, hitsOf, smallSuite } from './small-suite.ts'

let renders: Renders
let suite: Suite
beforeAll(async () => {
  renders = await fewRenders()
  suite = await smallSuite(renders)
})
afterAll(async () => renders[Symbol.asyncDispose]())

const saysBackground = (): number =>
  2 * suite.prompts.filter(({ group, expect }) => group === 'named' && expect.background).length

describe('of a suite', () => {
  test('renders themselves get everything right', async () => {
    const said = saysBackground()
    expect(said).toBeGreaterThan(0)
    expect(hitsOf(await evaluated(suite, (order) => drawn(renders, order)))).toEqual({
      named: { top1: '16/16', top5: '16/16', background: `${said}/${said}` },
      'held-out': { top1: '6/6', top5: '6/6', background: '6/6', placement: '6/6' },
    })
  })

  test('blurred renders still find themselves', async () => {
    const evaluation = await evaluated(suite, async (order) => blurred(await drawn(renders, order), 1.5))
    expect(hitsOf(evaluation)).toMatchObject({ named: { top1: '16/16' }, 'held-out': { top5: '6/6' } })
  })

  test('other items are not the nearest, wherever they are', async () => {
    const ids = renders.items.map(({ id }) => id)
    const evaluation = await evaluated(suite, (order) =>
      drawn(renders, order, ids[(ids.indexOf(order.prompt.expect.item!) + 1) % ids.length]),
    )
    expect(hitsOf(evaluation)).toMatchObject({
      named: { top1: '0/16' },
      'held-out': { top1: '0/6', background: '6/6', placement: '6/6' },
    })
  })

  test('the right item on a wrong background counts as the right item', async () => {
    const green = { name: 'green', rgb: [67, 160, 71] } as const
    const purple = { name: 'purple', rgb: [142, 63, 192] } as const
    const onPurple = (order: Order): Order => {
      const { background, ...expect } = order.prompt.expect
      const wrong = background?.name === 'purple' ? green : purple
      return { ...order, prompt: { ...order.prompt, expect: { ...expect, background: wrong } } }
    }
    const evaluation = await evaluated(suite, (order) => drawn(renders, onPurple(order)))
    expect(hitsOf(evaluation)['held-out']).toMatchObject({ background: '0/6', placement: '6/6' })
    const shares = evaluation.groups.find(({ group }) => group === 'held-out')!.shares
    // One that would vanish into its new background may be lost.
    expect(shares.get('top5')!.hits).toBeGreaterThanOrEqual(5)
  })

  test('what is drawn elsewhere is misplaced, and empty pictures show nothing', async () => {
    const opposite = (order: Order): Order => {
      const { placement, ...expect } = order.prompt.expect
      const far = placement && { ...placement, x: (placement.x + 0.3) % 1, y: placement.y }
      return { ...order, prompt: { ...order.prompt, expect: { ...expect, ...(far && { placement: far }) } } }
    }
    const shifted = await evaluated(suite, (order) => drawn(renders, opposite(order)))
    expect(hitsOf(shifted)['held-out']).toMatchObject({ placement: '0/6', background: '6/6' })
    const empty = await evaluated(suite, async ({ prompt }) => ({
      width: 64,
      height: 64,
      pixels: filled(64 * 64, prompt.expect.background?.rgb ?? [0, 0, 0]),
    }))
    expect(hitsOf(empty)['held-out']).toEqual({
      top1: '0/6',
      top5: '0/6',
      background: '6/6',
      placement: '0/6',
    })
  })

  test('blurred renders are near to renders, noise is not, and few pictures are no distribution', async () => {
    const named = suite.prompts.filter(({ group }) => group === 'named')
    const [first, ...others] = Array.from({ length: 8 }, () => named).flat()
    const many: Suite = { ...suite, prompts: [first!, ...others] }
    const pictures = new Map<string, Promise<Picture>>()
    const once = (order: Order): Promise<Picture> => {
      const picture = pictures.get(order.prompt.prompt) ?? drawn(renders, order)
      pictures.set(order.prompt.prompt, picture)
      return picture
    }
    const sharp = await evaluated(many, once)
    const points = sharp.pictures.map(({ sighting }) => projected(sighting.features))
    const gaussian = fitGaussian(points)
    expect(gaussian.count).toBeGreaterThanOrEqual(fewestPictures)
    const statistics = { gaussian, perfect: { count: 2, distance: 0 } }
    const held: Suite = { ...many, references: { ...suite.references!, renders: statistics } }
    const near = await evaluated(held, async (order) => blurred(await once(order), 0.7))
    const noise = await evaluated(held, async ({ index }) => noisy(index))
    expect(near.frechetDistance).toBeGreaterThan(0)
    expect(near.frechetDistance).toBeLessThan(0.1 * noise.frechetDistance!)
    const few = await evaluated({ ...held, prompts: [first!] }, once)
    expect(few.frechetDistance).toBeUndefined()
  })
})

function noisy(seed: number): Picture {
  let state = seed + 1
  const value = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24
  return { width: 48, height: 48, pixels: new Uint8Array(48 * 48 * 3).map(value) }
}

test('a selection takes the first prompts of each group and the first seeds of each prompt', () => {
  const orders = ordersOf(suite, { prompts: 2, seeds: 1 })
  const named = suite.prompts.filter(({ group }) => group === 'named')
  const heldOut = suite.prompts.filter(({ group }) => group === 'held-out')
  expect(orders.map(({ index, prompt, seed }) => [index, prompt.prompt, seed])).toEqual(
    [named[0]!, named[1]!, heldOut[0]!, heldOut[1]!].map(({ prompt, seeds }, index) => [
      index,
      prompt,
      seeds[0],
    ]),
  )
})

describe('making pictures', () => {
  const thirty = (): readonly Order[] => {
    const prompts = suite.prompts.flatMap((prompt) => [prompt, prompt])
    const [first, ...others] = prompts
    return ordersOf({ ...suite, prompts: [first!, ...others] }, {}).slice(0, 30)
  }
  const white: Picture = { width: 8, height: 8, pixels: filled(64, [255, 255, 255]) }

  test('goes on with several at a time', async () => {
    const orders = thirty()
    let [now, most] = [0, 0]
    await sightAll(
      orders,
      async () => {
        most = Math.max(most, ++now)
        await new Promise((resolve) => setImmediate(resolve))
        now--
        return white
      },
      new AbortController().signal,
    )
    expect(most).toBe(24)
  })

  test('ends with what the first that fails says, and tells the others', async () => {
    const orders = thirty()
    let told = 0
    const making = sightAll(
      orders,
      async ({ index }, signal) => {
        if (index === 3) throw new Error('no device')
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            told++
            reject(signal.reason as Error)
          })
        })
      },
      new AbortController().signal,
    )
    await expect(making).rejects.toThrow('no device')
    expect(told).toBe(23)
  })
})

test('the suite is the same from the same seed, and has the style and the background named or not', async () => {
  expect(await smallSuite(renders)).toEqual(suite)
  const prompts = suite.prompts.filter(({ group }) => group === 'named').map(({ prompt }) => prompt)
  for (const phrase of [`in ${curatedStyle} style`, ' background']) {
    expect(prompts.some((prompt) => prompt.includes(phrase))).toBe(true)
    expect(prompts.some((prompt) => !prompt.includes(phrase))).toBe(true)
  }
})
