/**
 * What work costs on a device, measured: straight lines (a fixed part for every call and one for every unit in it), fitted to
 * what calls took. The fixed part is what batching saves.
 */

/** Milliseconds of one call over some units: `baseMs + perUnitMs · units`. */
export interface Line {
  readonly baseMs: number
  readonly perUnitMs: number
}

/** Of one model on one device. */
export interface Costs {
  readonly loadMs: number
  readonly encode: Line // units: prompts
  readonly step: Line // units: rows · tokens
  /** One for each part that a decode is done in. */
  readonly decode: readonly Line[] // units: latent pixels
}

export const callMs = ({ baseMs, perUnitMs }: Line, units: number): number => baseMs + perUnitMs * units

/** What a request still needs of the device. */
export interface Need {
  readonly model: string
  readonly isLoaded: boolean
  /** Prompts whose embeddings are not there yet. */
  readonly prompts: number
  readonly rows: 1 | 2
  readonly tokens: number
  readonly stepsLeft: number
  readonly latentPixels: number
  /** Parts of the decode that are done. */
  readonly partsDone: number
  /** Latent pixels of the previews to come. */
  readonly previewPixels: number
}

/** Device time that the rest of a request takes alone. */
export function remainingMs(costs: Costs, need: Need): number {
  const load = need.isLoaded ? 0 : costs.loadMs
  const encode = need.prompts === 0 ? 0 : callMs(costs.encode, need.prompts)
  const denoise = need.stepsLeft * callMs(costs.step, need.rows * need.tokens)
  const decode = decodeMs(costs, need.latentPixels, need.partsDone)
  const previews = need.previewPixels === 0 ? 0 : decodeMs(costs, need.previewPixels, 0)
  return load + encode + denoise + decode + previews
}

const decodeMs = ({ decode }: Costs, pixels: number, partsDone: number): number =>
  decode.slice(partsDone).reduce((sum, line) => sum + callMs(line, pixels), 0)

/**
 * Whether to merge two calls into one: what that saves, to everyone who waits, must be worth the time that those in it wait for
 * each other.
 * @param units of the merged call
 * @param waiting all requests that are there
 */
export function pays(line: Line, units: number, waiting: number): boolean {
  return line.baseMs * waiting >= leastGain * callMs(line, units)
}

/** Below this the wait of the shorter request for the longer one outweighs the gain, by simulation (`bench -- serving --simulate`). */
const leastGain = 0.4

interface Sums {
  weight: number
  units: number
  unitsSquared: number
  ms: number
  unitsMs: number
}

/**
 * Two things are learned, at their own speeds. The shape: how the fixed part compares with the rest, which is the device's and the
 * model's own; calls that were measured on purpose never fade from it, so that a device that always sees one size keeps its
 * idea of the others. The pace: how much slower than that shape calls are just now, which changes with whatever else runs on
 * the machine. If a slow minute could bend the shape, batching would seem not to pay, and then nothing would show that it does.
 *
 * The shape is fitted by least squares on relative errors, so that short calls count as much as long ones.
 */
export class LineFit {
  readonly #prior = emptySums()
  readonly #live = emptySums()
  #shape: Line
  #pace = 1
  #observed = 0

  /** @param prior calls that were measured on purpose */
  constructor(prior: readonly { readonly units: number; readonly ms: number }[]) {
    for (const { units, ms } of prior) accumulate(this.#prior, units, ms, priorWeight)
    this.#shape = fit(this.#prior)
  }

  observe(units: number, ms: number): void {
    const expectedMs = callMs(this.#shape, units)
    if (expectedMs > 0 && ms > 0) {
      // A geometric mean, of all so far and later of the latest: one call that was held up says little.
      const share = Math.max(1 / (this.#observed + 1), 0.1)
      this.#pace *= (ms / expectedMs / this.#pace) ** share
    }
    this.#observed += 1
    for (const key of sumKeys) this.#live[key] *= shapeFading
    accumulate(this.#live, units, ms / this.#pace, 1)
    const both = emptySums()
    for (const key of sumKeys) both[key] = this.#prior[key] + this.#live[key]
    this.#shape = fit(both)
  }

  get line(): Line {
    const { baseMs, perUnitMs } = this.#shape
    return { baseMs: baseMs * this.#pace, perUnitMs: perUnitMs * this.#pace }
  }
}

/** A call that was measured on purpose counts as much as so many live ones. */
const priorWeight = 10
const shapeFading = 0.99
const sumKeys = ['weight', 'units', 'unitsSquared', 'ms', 'unitsMs'] as const
const emptySums = (): Sums => ({ weight: 0, units: 0, unitsSquared: 0, ms: 0, unitsMs: 0 })

function accumulate(sums: Sums, units: number, ms: number, count: number): void {
  const weight = count / Math.max(ms, 1e-3) ** 2
  sums.weight += weight
  sums.units += weight * units
  sums.unitsSquared += weight * units * units
  sums.ms += weight * ms
  sums.unitsMs += weight * units * ms
}

/** Neither part may be negative: where the free fit has one below zero, the line through the origin or the level one is taken. */
function fit({ weight, units, unitsSquared, ms, unitsMs }: Sums): Line {
  if (weight === 0) return { baseMs: 0, perUnitMs: 0 }
  const determinant = weight * unitsSquared - units * units
  const throughOrigin = { baseMs: 0, perUnitMs: unitsMs / unitsSquared }
  if (!(determinant > 1e-9 * weight * unitsSquared)) return throughOrigin
  const perUnitMs = (weight * unitsMs - units * ms) / determinant
  const baseMs = (ms - perUnitMs * units) / weight
  if (baseMs < 0) return throughOrigin
  if (perUnitMs < 0) return { baseMs: ms / weight, perUnitMs: 0 }
  return { baseMs, perUnitMs }
}
