/**
 * What a model's weights are before anything has been learned: as the code of the papers initialises them, with zeros where a new
 * block shall add nothing at first. A tensor's values follow from the seed and its key alone.
 */
import { createHash } from 'node:crypto'
import { MersenneTwister } from '../diffusion/mersenne-twister.ts'
import { randn } from '../diffusion/noise.ts'
import type { Passing } from './tensors.ts'

export type Shapes = ReadonlyMap<string, readonly number[]>
type Values = Float32Array<ArrayBuffer>

type Distribution =
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'normal'; readonly deviation: number }
  /** Between −bound and bound. */
  | { readonly kind: 'uniform'; readonly bound: number }

const zero: Distribution = { kind: 'constant', value: 0 }
const one: Distribution = { kind: 'constant', value: 1 }
const normal = (deviation: number): Distribution => ({ kind: 'normal', deviation })
const uniform = (bound: number): Distribution => ({ kind: 'uniform', bound })

/** Glorot & Bengio 2010 (PyTorch's xavier_uniform) of a matrix, or of a convolution's kernel as one. */
const xavier = (shape: readonly number[], outputs = shape[0] ?? 1): Distribution =>
  uniform(Math.sqrt(6 / (outputs + fanIn(shape))))

const fanIn = (shape: readonly number[]): number => shape.slice(1).reduce((a, b) => a * b, 1)

/**
 * PixArt-α (`initialize_weights` and the tables of PixArt.py) and DiT (of models.py): products by Glorot & Bengio, embeddings of
 * timestep, sizes and class normal with deviation 0.02 (the caption's too in PixArt.py, which at its width is Glorot's; see from-dit.ts), tables 1 / √width; cross-attention's output, DiT's modulations and
 * the last layer zero. Queries, keys and values are one matrix there, and keys and values in cross-attention.
 */
function transformerTensor(key: string, shape: readonly number[]): Distribution {
  if (key.endsWith('scale_shift_table')) return normal((shape.at(-1) ?? 1) ** -0.5)
  if (/^proj_out|\.attn2\.to_out\.|\.norm1\.linear\./.test(key)) return zero
  if (key.endsWith('.bias')) return zero
  if (/^adaln_single\.|timestep_embedder\.|class_embedder\./.test(key)) return normal(0.02)
  const [outputs = 1] = shape
  if (/\.attn1\.to_[qkv]\./.test(key)) return xavier(shape, 3 * outputs)
  if (/\.attn2\.to_[kv]\./.test(key)) return xavier(shape, 2 * outputs)
  return xavier(shape)
}

/** DiT has one embedding of timestep and class for all blocks; in diffusers' layout each has a copy. */
const sharedName = (key: string): string => key.replace(/^transformer_blocks\.\d+\.norm1\.emb\./, 'emb.')

/** @param shapes of a PixArt-α's or a DiT's parameters */
export function* randomTransformer(shapes: Shapes, seed: number): Passing<Map<string, Values>> {
  const drawn = new Map<string, Values>()
  for (const [key, shape] of shapes) {
    drawn.set(key, draw(transformerTensor(key, shape), shape, `${seed}/transformer/${sharedName(key)}`))
    yield
  }
  return drawn
}

/** PyTorch's defaults: weights and biases uniform within 1 / √fan-in, norms one and zero. */
export function* randomVae(shapes: Shapes, seed: number): Passing<Map<string, Values>> {
  const distribution = (key: string, shape: readonly number[]): Distribution => {
    const weight = shapes.get(key.replace(/\.bias$/, '.weight')) ?? shape
    if (weight.length === 1) return key.endsWith('.bias') ? zero : one
    return uniform(fanIn(weight) ** -0.5)
  }
  const drawn = new Map<string, Values>()
  for (const [key, shape] of shapes) {
    drawn.set(key, draw(distribution(key, shape), shape, `${seed}/vae/${key}`))
    yield
  }
  return drawn
}

/** Standard normal numbers of a name. */
export function normalNumbers(name: string): () => number {
  const block = 2 ** 16
  let [numbers, next, blocks] = [new Float32Array(0), 0, 0]
  return () => {
    if (next === numbers.length) [numbers, next] = [randn(seedOf(`${name}/${blocks++}`), block), 0]
    return numbers[next++]!
  }
}

function draw(distribution: Distribution, shape: readonly number[], name: string): Values {
  const length = shape.reduce((a, b) => a * b, 1)
  switch (distribution.kind) {
    case 'constant':
      return new Float32Array(length).fill(distribution.value)
    case 'normal':
      return randn(seedOf(name), length).map((value) => value * distribution.deviation)
    case 'uniform': {
      const random = new MersenneTwister(seedOf(name))
      return Float32Array.from(
        { length },
        () => ((random.next() & 0xffffff) / 2 ** 23 - 1) * distribution.bound,
      )
    }
  }
}

const seedOf = (name: string): number => createHash('sha256').update(name).digest().readUInt32LE()
