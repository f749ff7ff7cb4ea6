/** `node recipes/emoji/validate-features.ts`: whether distorted renders still find themselves, without any model. */
import { Command } from 'commander'
import sharp from 'sharp'
import { nearest, see } from '../../src/evaluation/features.ts'
import { filled, place, type Picture, type Sprite } from '../../src/evaluation/picture.ts'
import { backgrounds, backgroundCalled, nearestBackground, type NamedColour } from './colour.ts'
import { Draws } from './draws.ts'
import { Galleries } from './gallery.ts'
import { defaultCache, Renders } from './render.ts'
import { styles, vocabulary } from './vocabulary.ts'

/** What is done to a render: where it lies on 128 × 128 pixels and on what, and what happens to its pixels. */
interface Distortion {
  readonly name: string
  readonly background: 'white' | 'any'
  readonly objectSide: number
  readonly shift: number
  /** Of a Gaussian, in pixels. */
  readonly blur: number
  /** Standard deviation of normal noise on values of 0 … 255. */
  readonly noise: number
}

const side = 128
/** Of 26 dB: 255 · 10^(−26/20). */
const noise26 = 12.78
const plain: Distortion = {
  name: 'as it is',
  background: 'white',
  objectSide: 108,
  shift: 0,
  blur: 0,
  noise: 0,
}
const distortions: readonly Distortion[] = [
  plain,
  { ...plain, name: 'shifted, smaller', objectSide: 88, shift: 6 },
  { ...plain, name: 'blurred', blur: 1.5 },
  { ...plain, name: 'noise of 26 dB', noise: noise26 },
  { ...plain, name: 'other backgrounds', background: 'any' },
  {
    ...plain,
    name: 'blur, noise, shift, background',
    background: 'any',
    objectSide: 92,
    shift: 5,
    blur: 1,
    noise: noise26 / 2,
  },
  {
    ...plain,
    name: 'small (42 px)',
    background: 'any',
    objectSide: 42,
    shift: 20,
    blur: 0.7,
    noise: noise26 / 2,
  },
]

await new Command('node recipes/emoji/validate-features.ts')
  .description('Prints how often distorted renders are nearest to themselves among all items.')
  .option('--count <n>', 'items of each style', Number, 150)
  .option('--seed <n>', 'decides which', Number, 1)
  .option('--cache <folder>', 'where rendered icons are kept', defaultCache)
  .action(validate)
  .parseAsync()

async function validate({
  count,
  seed,
  cache,
}: {
  count: number
  seed: number
  cache: string
}): Promise<void> {
  await using renders = await Renders.open(cache)
  const galleries = new Galleries(renders)
  // Few backgrounds, since every one needs galleries of its own.
  const some = new Draws(seed, 'backgrounds').some(backgrounds, 2)
  console.log(
    'distortion                       PSNR  top-1  top-5  own style  top-1 in another style  background',
  )
  for (const distortion of distortions) {
    const draws = new Draws(seed, distortion.name)
    const hits = { first: 0, five: 0, ownStyle: 0, elsewhere: 0, background: 0 }
    let [tried, errors] = [0, 0]
    for (const [index, style] of styles.entries()) {
      const other = styles[(index + 1) % styles.length]!
      for (const { id } of draws.some(vocabulary, count)) {
        const { vanishesOn } = renders.appearance(style, id)
        const background = distortion.background === 'white' ? backgroundCalled('white') : draws.oneOf(some)
        if (vanishesOn.includes(background.name)) continue
        const sprite = await renders.sprite(style, id)
        const { picture, meanSquaredError } = await distorted(distortion, sprite, background, draws)
        const seen = see(picture)
        const found = nearestBackground(seen.background)
        const own = nearest(seen.features, await galleries.of(style, found), 5)
        const [elsewhere] = nearest(seen.features, await galleries.of(other, found), 1)
        tried++
        errors += meanSquaredError
        if (found === background) hits.background++
        if (own[0]!.id === id) hits.first++
        if (own.some((each) => each.id === id)) hits.five++
        if (own[0]!.distance < elsewhere!.distance) hits.ownStyle++
        if (elsewhere!.id === id) hits.elsewhere++
      }
    }
    const share = (hit: number, width: number) => `${((100 * hit) / tried).toFixed(1)} %`.padStart(width)
    const psnr = errors === 0 ? '  –' : (10 * Math.log10(255 ** 2 / (errors / tried))).toFixed(1)
    console.log(
      `${distortion.name.padEnd(31)}${psnr.padStart(6)}${share(hits.first, 8)}${share(hits.five, 8)}${share(hits.ownStyle, 10)}${share(hits.elsewhere, 24)}${share(hits.background, 12)}`,
    )
  }
}

async function distorted(
  { objectSide, shift, blur, noise }: Distortion,
  sprite: Sprite,
  background: NamedColour,
  draws: Draws,
): Promise<{ readonly picture: Picture; readonly meanSquaredError: number }> {
  const clean = filled(side * side, background.rgb)
  const scale = objectSide / Math.max(sprite.width, sprite.height)
  place({ width: side, height: side, pixels: clean }, sprite, {
    centreX: side / 2 + draws.between(-shift, shift),
    centreY: side / 2 + draws.between(-shift, shift),
    width: sprite.width * scale,
    height: sprite.height * scale,
  })
  const raw = { raw: { width: side, height: side, channels: 3 } } as const
  const blurred = blur > 0 ? await sharp(clean, raw).blur(blur).raw().toBuffer() : clean
  const pixels = Uint8Array.from(blurred, (value) =>
    Math.min(255, Math.max(0, Math.round(value + noise * normal(draws)))),
  )
  const squares = pixels.reduce((sum, value, at) => sum + (value - clean[at]!) ** 2, 0)
  return { picture: { width: side, height: side, pixels }, meanSquaredError: squares / pixels.length }
}

/** Box and Muller's. */
function normal(draws: Draws): number {
  return Math.sqrt(-2 * Math.log(1 - draws.between(0, 1))) * Math.cos(2 * Math.PI * draws.between(0, 1))
}
