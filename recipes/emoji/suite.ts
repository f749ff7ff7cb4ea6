/** The suite that the default model is evaluated by: what people would ask for, compositions that it was never shown, and what both should look like. */
import { see } from '../../src/evaluation/features.ts'
import { fitGaussian, projected, squaredFrechetDistance } from '../../src/evaluation/frechet.ts'
import type { ReferenceItem, RenderStatistics, Suite, SuitePrompt } from '../../src/evaluation/suite.ts'
import { prompt, shortCaption } from './captions.ts'
import { drawComposition, middleOf, type Composition, type Recipe } from './composition.ts'
import { Draws } from './draws.ts'
import { smallSprites } from './gallery.ts'
import { paint } from './picture.ts'
import { curatedStyle, recipeFor } from './recipes.ts'
import type { Renders } from './render.ts'
import type { Item } from './vocabulary.ts'

export interface SuiteOptions {
  readonly seed: number
  /** Side of the square pictures in pixels. */
  readonly size: number
  /** Prompts of one large item, and of held-out compositions. */
  readonly named: number
  readonly heldOut: number
  /** Pictures that the statistics of renders are taken from. */
  readonly renders: number
}

const seedsPerNamed = 2

/** @returns the same for the same options */
export async function makeSuite(renders: Renders, options: SuiteOptions): Promise<Suite> {
  const { seed, named, heldOut } = options
  const items = new Draws(seed, 'suite', 'items').some(renders.items, named)
  const [first, ...others] = [
    ...items.map((item, index) => namedPrompt(renders, options, item, index)),
    ...Array.from({ length: heldOut }, (_, index) => heldOutPrompt(renders, options, index)),
  ]
  if (!first) throw new RangeError('suite: expected at least one prompt, got none')
  return {
    name: 'emoji',
    description: `${named} things as people would ask for them, with ${seedsPerNamed} seeds each, and ${heldOut} compositions whose object, background and place were never trained on together, in the style of ${curatedStyle}; drawn from seed ${seed}.`,
    prompts: [first, ...others],
    references: {
      items: await referenceItems(renders),
      renders: await renderStatistics(renders, options),
    },
  }
}

function namedPrompt(renders: Renders, options: SuiteOptions, item: Item, index: number): SuitePrompt {
  const composition = draw(renders, portraits(options, [item]), options, 'named', index)
  const { text, background } = shortCaption(composition, new Draws(options.seed, 'suite', 'caption', index))
  return {
    prompt: text,
    group: 'named',
    seeds: seedsFor(options, 'named', index, seedsPerNamed),
    size: sizeOf(composition),
    expect: {
      item: item.id,
      ...(background === 'said' ? { background: backgroundOf(composition) } : {}),
    },
  }
}

function heldOutPrompt(renders: Renders, options: SuiteOptions, index: number): SuitePrompt {
  const composition = draw(renders, heldOutOnes(options, renders.items), options, 'held-out', index)
  const { layout, objects } = composition
  if (layout.kind !== 'one') throw new Error(`held-out: expected one object, got ${layout.kind}`)
  return {
    prompt: prompt(composition),
    group: 'held-out',
    seeds: seedsFor(options, 'held-out', index, 1),
    size: sizeOf(composition),
    expect: {
      item: objects[0].item.id,
      background: backgroundOf(composition),
      placement: { name: layout.placement, ...middleOf(layout) },
    },
  }
}

const draw = (
  renders: Renders,
  recipe: Recipe,
  { seed }: SuiteOptions,
  purpose: string,
  index: number,
): Composition =>
  drawComposition(new Draws(seed, 'suite', purpose, index), recipe, renders.appearance.bind(renders))

/** One large thing in the centre, mostly on white. */
const portraits = ({ size }: SuiteOptions, items: readonly Item[]): Recipe => ({
  ...recipeFor('single', size, items),
  styles: [[curatedStyle, 1]],
})

const heldOutOnes = ({ size }: SuiteOptions, items: readonly Item[]): Recipe => ({
  ...recipeFor('held-out', size, items),
  styles: [[curatedStyle, 1]],
  sizes: [[{ width: size, height: size }, 1]],
})

function seedsFor({ seed }: SuiteOptions, purpose: string, index: number, count: number): readonly number[] {
  const draws = new Draws(seed, 'suite', purpose, index, 'seeds')
  return Array.from({ length: count }, () => Math.floor(draws.between(0, 2 ** 31)))
}

const sizeOf = ({ width, height }: Composition) => ({ width, height })

const backgroundOf = ({ background: { name, rgb } }: Composition) => ({ name, rgb })

async function referenceItems(renders: Renders): Promise<ReadonlyMap<string, ReferenceItem>> {
  const sprites = await smallSprites(renders, curatedStyle)
  return new Map(renders.items.map(({ id, name }) => [id, { name, sprite: sprites.get(id)! }]))
}

/**
 * Of renders in combinations that are never trained on, in the proportion of the suite's pictures: large things in the centre, and
 * all that held-out prompts ask for. They are painted from the whole icons, as pictures to train on are, and not from the small
 * references; what is kept of them is their mean and covariance.
 */
async function renderStatistics(renders: Renders, options: SuiteOptions): Promise<RenderStatistics> {
  const { named, heldOut } = options
  const shareOfPortraits = (seedsPerNamed * named) / (seedsPerNamed * named + heldOut)
  const recipes = {
    portrait: { ...portraits(options, renders.items), part: 'held-out' },
    one: heldOutOnes(options, renders.items),
  } as const satisfies Record<string, Recipe>
  const points = async (purpose: string, count: number) =>
    Array.fromAsync({ length: count }, async (_, index) => {
      const recipe = recipes[index < shareOfPortraits * count ? 'portrait' : 'one']
      const composition = draw(renders, recipe, options, purpose, index)
      return projected(see(await paint(composition, renders.sprite.bind(renders))).features)
    })
  const gaussian = fitGaussian(await points('renders', options.renders))
  const others = await points('other renders', seedsPerNamed * named + heldOut)
  const distance = squaredFrechetDistance(fitGaussian(others), gaussian)
  return { gaussian, perfect: { count: others.length, distance } }
}
