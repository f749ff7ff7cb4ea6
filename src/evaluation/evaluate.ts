/** From pictures to verdicts: every picture of a suite is made, looked at, and held against what was asked for and against the renders. */
import { see } from './features.ts'
import { fewestPictures, fitGaussian, projected, squaredFrechetDistance } from './frechet.ts'
import { galleryOn, type Gallery } from './gallery.ts'
import { judge, sharesOf, type Measure, type Sighting, type Verdict } from './measures.ts'
import { colourDistance, oklab, type Oklab, type Rgb } from './oklab.ts'
import type { Picture } from './picture.ts'
import type { Proportion } from './proportion.ts'
import type { References, RenderStatistics, Suite, SuitePrompt } from './suite.ts'

/** One picture to make. */
export interface Order {
  /** In the list of all orders. */
  readonly index: number
  readonly prompt: SuitePrompt
  readonly seed: number
}

export interface Judged extends Order {
  readonly sighting: Sighting
  readonly verdict: Verdict
}

export interface GroupShares {
  readonly group: string
  readonly pictures: number
  readonly shares: ReadonlyMap<Measure, Proportion>
}

export interface Evaluation {
  readonly pictures: readonly Judged[]
  readonly groups: readonly GroupShares[]
  /** Squared, to the suite's renders; undefined where it has none, or with too few pictures. */
  readonly frechetDistance: number | undefined
}

export interface Selection {
  /** Of each group, the first prompts. */
  readonly prompts?: number | undefined
  /** Of each prompt, the first seeds. */
  readonly seeds?: number | undefined
}

/** @returns in the suite's order */
export function ordersOf(
  { prompts }: Suite,
  { prompts: most = Infinity, seeds }: Selection,
): readonly Order[] {
  const taken = new Map<string, number>()
  return prompts
    .filter(({ group }) => {
      const count = taken.get(group) ?? 0
      taken.set(group, count + 1)
      return count < most
    })
    .flatMap((prompt) => prompt.seeds.slice(0, seeds).map((seed) => ({ prompt, seed })))
    .map((order, index) => ({ ...order, index }))
}

/** Requests that wait or run at a time: as many as a device takes into one batch, and some to follow. */
const atOnce = 24

/**
 * Makes pictures, several at a time.
 * @param make called in the order of the list
 * @throws what the first that failed threw; the others are told to end, and have ended
 */
export async function sightAll(
  orders: readonly Order[],
  make: (order: Order, signal: AbortSignal) => Promise<Picture>,
  signal: AbortSignal,
): Promise<readonly Sighting[]> {
  const sightings: Sighting[] = []
  const failed = new AbortController()
  const either = AbortSignal.any([signal, failed.signal])
  const waiting = orders.values()
  const makeOneByOne = async (): Promise<void> => {
    for (const order of waiting) {
      either.throwIfAborted()
      const picture = await make(order, either)
      const { width, height } = picture
      sightings[order.index] = { width, height, ...see(picture) }
    }
  }
  const ends = await Promise.allSettled(
    Array.from({ length: atOnce }, async () =>
      makeOneByOne().catch((error: unknown) => {
        failed.abort(error)
        throw error
      }),
    ),
  )
  signal.throwIfAborted()
  if (ends.some(({ status }) => status === 'rejected')) throw failed.signal.reason
  return sightings
}

export interface JudgeOptions {
  readonly signal: AbortSignal
  readonly onJudged: (judged: number) => void
}

/** Background by background, since every one needs references of its own: a second or two for a thousand items. */
export async function judgeAll(
  orders: readonly Order[],
  sightings: readonly Sighting[],
  suite: Suite,
  { signal, onJudged }: JudgeOptions,
): Promise<Evaluation> {
  const backgrounds = backgroundsOf(suite)
  const byBackground = Map.groupBy(orders, ({ index }) =>
    nearestOf(backgrounds, sightings[index]!.background),
  )
  const verdicts: Verdict[] = []
  let judged = 0
  for (const [background, those] of byBackground) {
    // What interrupts is heard between two backgrounds.
    await new Promise((resolve) => setImmediate(resolve))
    signal.throwIfAborted()
    const gallery = suite.references ? galleryOf(suite.references, background.rgb) : new Map<string, never>()
    for (const { index, prompt } of those) verdicts[index] = judge(sightings[index]!, prompt.expect, gallery)
    onJudged((judged += those.length))
  }
  const pictures = orders.map((order) => ({
    ...order,
    sighting: sightings[order.index]!,
    verdict: verdicts[order.index]!,
  }))
  return {
    pictures,
    groups: groupsOf(pictures),
    frechetDistance: suite.references?.renders && distanceTo(suite.references.renders, sightings),
  }
}

function galleryOf({ items }: References, background: Rgb): Gallery {
  const sprites = new Map([...items].map(([id, { sprite }]) => [id, sprite]))
  return galleryOn(sprites, background)
}

function distanceTo({ gaussian }: RenderStatistics, sightings: readonly Sighting[]): number | undefined {
  if (sightings.length < fewestPictures) return undefined
  return squaredFrechetDistance(fitGaussian(sightings.map(({ features }) => projected(features))), gaussian)
}

function groupsOf(pictures: readonly Judged[]): readonly GroupShares[] {
  return [...Map.groupBy(pictures, ({ prompt }) => prompt.group)].map(([group, members]) => ({
    group,
    pictures: members.length,
    shares: sharesOf(members.map(({ verdict }) => verdict)),
  }))
}

interface Background {
  readonly rgb: Rgb
  readonly lab: Oklab
}

/** What references are pasted on: every background that a prompt of the suite asks for, and white. */
function backgroundsOf({ prompts }: Suite): readonly Background[] {
  const white: Rgb = [255, 255, 255]
  const asked = prompts.map(({ expect }) => expect.background?.rgb).filter((rgb) => rgb !== undefined)
  const distinct = new Map([white, ...asked].map((rgb) => [rgb.join(), rgb]))
  return [...distinct.values()].map((rgb) => ({ rgb, lab: oklab(...rgb) }))
}

const nearestOf = (backgrounds: readonly Background[], lab: Oklab): Background =>
  backgrounds.reduce((best, each) =>
    colourDistance(each.lab, lab) < colourDistance(best.lab, lab) ? each : best,
  )
