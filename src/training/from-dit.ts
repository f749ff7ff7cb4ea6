/**
 * Re-parameterisation (Chen et al. 2023, arXiv 2310.00426, section 2.3): the weights of a PixArt-α that computes, for one timestep
 * and without a class, what a class-conditional DiT computes, so that training begins with a model that knows pixels.
 *
 * The modulation of block i is that of the whole model plus the block's table; the table is what DiT's own modulation of the
 * block, at that timestep, has more. Cross-attention adds nothing at first: its output projection is zero.
 */
import type { DitConfig } from '../models/dit.ts'
import { timestepFrequencies } from '../models/pixart.ts'
import { atOnce, tensorOf, type Passing, type Tensors } from './tensors.ts'

/** At which the two models agree. */
const timestep = 500

export interface FromDitOptions {
  readonly config: DitConfig
  /** Weights of the DiT by their keys in diffusers' layout. */
  readonly dit: Tensors
  /** Of each of PixArt-α's parameters by key: what the new model has. */
  readonly shapes: ReadonlyMap<string, readonly number[]>
  /** Standard normal numbers, for what DiT has nothing of: the text's projections and the cross-attentions. */
  readonly random: () => number
}

/**
 * @returns a tensor for every key of `shapes`
 * @throws {RangeError} naming the key that the DiT has not, or in another size
 */
export const fromDit = (options: FromDitOptions): Map<string, Float32Array<ArrayBuffer>> =>
  atOnce(fromDitPass(options))

/** The same with stops. */
export function* fromDitPass({
  config,
  dit,
  shapes,
  random,
}: FromDitOptions): Passing<Map<string, Float32Array<ArrayBuffer>>> {
  const width = config.heads * config.headWidth
  const has = (key: string, length: number): Float32Array => tensorOf(dit, key, length)
  const layer = (key: string, x: Float64Array, out: number): Float64Array =>
    affine(x, has(`${key}.weight`, out * x.length), has(`${key}.bias`, out))
  const embedder = (block: number): string => `transformer_blocks.${block}.norm1.emb.timestep_embedder`
  const embedded = (block: number, shift: 0 | 1): Float64Array =>
    layer(
      `${embedder(block)}.linear_2`,
      layer(`${embedder(block)}.linear_1`, sinusoids(shift), width).map(silu),
      width,
    )

  const shared = embedded(0, 0)
  const sharedModulation = layer('transformer_blocks.0.norm1.linear', shared.map(silu), 6 * width)
  const copies: Readonly<Record<string, string>> = {
    'adaln_single.emb.timestep_embedder': embedder(0),
    'adaln_single.linear': 'transformer_blocks.0.norm1.linear',
    proj_out: 'proj_out_2',
  }
  const computed = new Map<string, Float32Array<ArrayBuffer>>()
  for (let i = 0; i < config.layers; i++) {
    const own = layer(`transformer_blocks.${i}.norm1.linear`, embedded(i, 1).map(silu), 6 * width)
    computed.set(`transformer_blocks.${i}.scale_shift_table`, difference(own, sharedModulation))
    yield
  }
  const last = layer('proj_out_1', embedded(0, 1).map(silu), 2 * width)
  computed.set('scale_shift_table', difference(last, Float64Array.from([...shared, ...shared])))

  const valuesOf = (key: string, shape: readonly number[]): Float32Array<ArrayBuffer> => {
    const length = shape.reduce((a, b) => a * b, 1)
    const known = computed.get(key)
    if (known) return known
    const copied = Object.keys(copies).find((prefix) => key.startsWith(`${prefix}.`))
    if (copied) return has(copies[copied] + key.slice(copied.length), length).slice()
    if (isNew(key)) return startOf(key, shape, random)
    return has(key, length).slice()
  }
  const made = new Map<string, Float32Array<ArrayBuffer>>()
  for (const [key, shape] of shapes) {
    made.set(key, valuesOf(key, shape))
    yield
  }
  return made
}

/** What DiT has nothing of. */
const isNew = (key: string): boolean =>
  /\.attn2\.|^caption_projection\.|\.(?:resolution|aspect_ratio)_embedder\./.test(key)

/**
 * Outputs of cross-attention and of the sizes' embeddings are zero. The rest is random by Glorot & Bengio, which at the published
 * width is the deviation of 0.02 that PixArt's own code takes; in a small model that would leave the text too faint to be learned
 * from, as it passes four such matrices on its way.
 */
function startOf(key: string, shape: readonly number[], random: () => number): Float32Array<ArrayBuffer> {
  const length = shape.reduce((a, b) => a * b, 1)
  const silent = /\.attn2\.to_out\.|_embedder\.linear_2\.|\.bias$/.test(key)
  const [outputs = 1, inputs = 1] = shape
  const deviation = silent ? 0 : Math.sqrt(2 / (outputs + inputs))
  return Float32Array.from({ length }, () => deviation * random())
}

/** Cosines, then sines, of the timestep. */
function sinusoids(shift: 0 | 1): Float64Array {
  const angles = Array.from(timestepFrequencies(shift), (frequency) => Math.fround(timestep * frequency))
  return Float64Array.from([...angles.map(Math.cos), ...angles.map(Math.sin)])
}

const silu = (x: number): number => x / (1 + Math.exp(-x))

const difference = (a: Float64Array, b: Float64Array): Float32Array<ArrayBuffer> =>
  Float32Array.from(a, (value, i) => value - b[i]!)

/** weight (out, in) · x + bias */
function affine(x: Float64Array, weight: Float32Array, bias: Float32Array): Float64Array {
  return Float64Array.from(bias, (start, row) => {
    let sum = start
    for (let column = 0; column < x.length; column++) sum += weight[row * x.length + column]! * x[column]!
    return sum
  })
}
