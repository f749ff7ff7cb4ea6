/** What a model's work costs on this device: measured when it is first loaded, kept in the cache, refined by every call. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { maxPromptTokens } from '../models/components.ts'
import { callMs, LineFit, type Costs, type Line } from './costs.ts'
import type { Model, Stage } from './model.ts'
import { float32 } from './session.ts'

interface Point {
  readonly units: number
  readonly ms: number
}

/** Calls that were measured on purpose. */
export interface Profile {
  readonly loadMs: number
  readonly encode: readonly Point[] // units: prompts
  readonly step: readonly Point[] // units: rows · tokens
  readonly decode: readonly (readonly Point[])[] // a list for each part; units: latent pixels
}

/** How long a start may take for measuring. What does not fit in is learned from live work. */
const budgetMs = 2_000

/** A call that takes longer is not made twice, and one that was only held up is not believed. */
const slowMs = 500

/** Calls of each size beyond the first two. */
const maxTurns = 10

/** Only used until something was measured: it decides the order of requests that nobody has seen the like of. */
const guessedFlopsPerMs = 5e7
/** Every call reads all weights of its part once: the fixed part of a model that is too slow to be measured. */
const guessedBytesPerMs = 1e7

export class CostBook {
  readonly #encode: LineFit
  readonly #step: LineFit
  readonly #decode: readonly LineFit[]
  /** By stage. The dearest stands for all, so that no stage is fetched lightly. */
  readonly #loadMs = new Map<Stage, number>()
  /** Kept until something new is observed: the policy asks for them many times in between. */
  #costs: Costs | undefined

  constructor(profile: Profile) {
    this.#encode = new LineFit(profile.encode)
    this.#step = new LineFit(profile.step)
    this.#decode = profile.decode.map((points) => new LineFit(points))
    this.#loadMs.set('encode', profile.loadMs)
  }

  get costs(): Costs {
    this.#costs ??= {
      loadMs: Math.max(...this.#loadMs.values()),
      encode: this.#encode.line,
      step: this.#step.line,
      decode: this.#decode.map(({ line }) => line),
    }
    return this.#costs
  }

  observeEncode(prompts: number, ms: number): void {
    this.#costs = undefined
    this.#encode.observe(prompts, ms)
  }

  observeStep(rowTokens: number, ms: number): void {
    this.#costs = undefined
    this.#step.observe(rowTokens, ms)
  }

  observeDecode(part: number, latentPixels: number, ms: number): void {
    this.#costs = undefined
    this.#decode[part]?.observe(latentPixels, ms)
  }

  observeLoad(stage: Stage, ms: number): void {
    this.#costs = undefined
    this.#loadMs.set(stage, ms)
  }
}

/** From the number of weights alone. */
export function guessProfile({ description, decoderParts, pixart }: Model): Profile {
  const ms = (flops: number) => flops / guessedFlopsPerMs
  const weights = Math.min(
    description.sizeBytes / 4,
    pixart.layers * 18 * (pixart.heads * pixart.headWidth) ** 2,
  )
  const readMs = (4 * weights) / guessedBytesPerMs
  const perToken = ms(2 * weights)
  const line = (...units: readonly number[]): Point[] =>
    units.map((count) => ({ units: count, ms: readMs + perToken * count }))
  return {
    loadMs: description.sizeBytes / 1e6,
    encode: [{ units: 1, ms: readMs + perToken * maxPromptTokens }],
    step: line(1, 4096),
    decode: Array.from({ length: decoderParts }, () => [{ units: 1, ms: 0.05 / decoderParts }]),
  }
}

/** As if it had been measured on purpose: two points of each line. */
export function profileOf({ loadMs, encode, step, decode }: Costs): Profile {
  const points = (line: Line, ...units: readonly number[]): Point[] =>
    units.map((count) => ({ units: count, ms: callMs(line, count) }))
  return {
    loadMs,
    encode: points(encode, 1, 4),
    step: points(step, 256, 4096),
    decode: decode.map((line) => points(line, 256, 4096)),
  }
}

/** Measures a loaded model, within the budget: shortest calls first, and none that is expected to pass it. */
export async function measureProfile(model: Model, loadMs: number): Promise<Profile> {
  const { pixart, description, latentScale } = model
  const guess = guessProfile(model)
  const timed = async (call: () => Promise<unknown>) => {
    const start = performance.now()
    await call()
    return performance.now() - start
  }
  /**
   * Each twice, since the first call allocates, but slow ones once. Then in turns for as long as the share lasts: what
   * else runs on the machine only ever makes a call longer, so that the shortest of several is the device's own.
   */
  const series = async (
    sizes: readonly number[],
    guessed: readonly Point[],
    shareMs: number,
    call: (units: number) => Promise<unknown>,
  ) => {
    const points: Point[] = []
    const largest = guessed.at(-1)
    let [left, perUnitMs] = [shareMs, largest ? largest.ms / largest.units : 0]
    for (const units of sizes) {
      if (2 * units * perUnitMs > left) break
      const firstMs = await timed(() => call(units))
      const againMs = firstMs > slowMs ? undefined : await timed(() => call(units))
      left -= firstMs + (againMs ?? 0)
      const ms = againMs ?? firstMs
      perUnitMs = ms / units
      points.push({ units, ms })
    }
    for (let turn = 0; turn < maxTurns; turn++) {
      for (const [index, { units, ms }] of points.entries()) {
        if (ms > left) return points
        const againMs = await timed(() => call(units))
        left -= againMs
        points[index] = { units, ms: Math.min(ms, againMs) }
      }
    }
    return points.length > 0 ? points : guessed
  }

  // A stage that is not in memory must not be loaded within what is timed.
  await model.prepare('encode')
  const encode = await series([1, 2, 4], guess.encode, budgetMs / 4, (prompts) =>
    model.encodeText(
      new Int32Array(prompts * maxPromptTokens),
      new Float32Array(prompts * maxPromptTokens).fill(1),
      prompts,
    ),
  )
  const tokenCounts = description.buckets.map(
    ({ width, height }) => (width * height) / (latentScale * pixart.patchSize) ** 2,
  )
  const tokens = Math.min(...tokenCounts)
  await model.prepare('denoise')
  const step = await series(
    [1, 2, 4, 8].map((rows) => rows * tokens),
    guess.step,
    budgetMs / 2,
    (rowTokens) => callTransformer(model, rowTokens / tokens, tokens),
  )
  await model.prepare('decode')
  const side = description.baseSize / latentScale
  const decode: (readonly Point[])[] = []
  const sizes = [side / 4, side / 2, side].map(Math.floor)
  let hidden = sizes.map((size) =>
    model.decoderInput(new Float32Array(pixart.inChannels * size * size), {
      batch: 1,
      height: size,
      width: size,
    }),
  )
  for (let part = 0; part < model.decoderParts; part++) {
    const next: typeof hidden = []
    const units = sizes.map((size) => size * size).slice(0, hidden.length)
    const points = await series(
      units,
      guess.decode[part]!,
      budgetMs / 4 / model.decoderParts,
      async (pixels) => {
        const index = units.indexOf(pixels)
        next[index] = await model.decodePart(part, hidden[index]!)
      },
    )
    decode.push(points)
    hidden = next
    if (hidden.length === 0) {
      // The sizes that were too dear for this part are too dear for the rest.
      decode.push(...guess.decode.slice(part + 1))
      break
    }
  }
  return { loadMs, encode, step, decode }
}

/** One call over made-up rows. */
async function callTransformer(model: Model, rows: number, tokens: number): Promise<void> {
  const { inChannels, outChannels, patchSize, heads, headWidth, layers } = model.pixart
  const width = heads * headWidth
  const array = (...dims: number[]) =>
    float32(new Float32Array(dims.reduce((a, b) => a * b)).fill(0.5), ...dims)
  const inputs = {
    tokens: array(rows, tokens, inChannels * patchSize ** 2),
    coords: array(rows, tokens, 2),
    mask: array(rows, maxPromptTokens),
    embedded: array(rows, width),
    modulation: array(rows, 6 * width),
    context: array(rows, 2 * layers, maxPromptTokens, width),
  }
  await model.predictNoise(inputs, new Float32Array(rows * tokens * outChannels * patchSize ** 2))
}

/** @returns the profile kept under this key, or undefined when there is none that can be used */
export async function readProfile(
  folder: string,
  key: string,
  decoderParts: number,
): Promise<Profile | undefined> {
  try {
    const profile = JSON.parse(await readFile(profilePath(folder, key), 'utf8')) as Profile
    return profile.decode.length === decoderParts && profile.step.length > 0 ? profile : undefined
  } catch {
    return undefined // never measured, or left by another version: it is measured again
  }
}

export async function writeProfile(folder: string, key: string, profile: Profile): Promise<void> {
  await mkdir(folder, { recursive: true })
  const temporary = `${profilePath(folder, key)}.${randomBytes(6).toString('hex')}.tmp`
  await writeFile(temporary, JSON.stringify(profile))
  await rename(temporary, profilePath(folder, key))
}

const profilePath = (folder: string, key: string): string =>
  join(folder, `costs-${key.replaceAll(/[^\w.-]/g, '_')}.json`)
