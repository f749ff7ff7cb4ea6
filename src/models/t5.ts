/**
 * The encoder of T5 v1.1 (Raffel et al. 2020, arXiv 1910.10683; Shazeer 2020, arXiv 2002.05202 for the gated GELU), as
 * transformers' `T5EncoderModel` computes it: RMS norms before each sub-layer, no biases, unscaled attention, one table of
 * relative position biases shared by all layers.
 *
 * Shapes: B prompts, T tokens, H heads, D width.
 */
import { symbol } from '../graph/dimension.ts'
import { constant, graph, input, integers, scalar, type Graph, type Value } from '../graph/ir.ts'
import { Add, Clip, Gather, Mul, Range, Shape, Squeeze, Sub, Transpose, Unsqueeze } from '../graph/ops.ts'
import { Scope, type WeightStorage } from '../graph/scope.ts'
import { ConfigReader, type ConfigFields } from './config-reader.ts'
import { embedding, linear } from './layers.ts'
import { lowerings, type Lowering, type LoweringName } from './lowering.ts'

export interface T5Config {
  readonly vocabulary: number
  readonly width: number
  readonly heads: number
  readonly headWidth: number
  readonly feedForwardWidth: number
  readonly layers: number
  readonly positionBuckets: number
  readonly maxDistance: number
  readonly epsilon: number
}

/** @throws {ModelConfigError} naming the field that is wrong or not covered */
export function readT5Config(json: ConfigFields): T5Config {
  const config = new ConfigReader('text_encoder', json)
  config.require('feed_forward_proj', 'gated-gelu')
  return {
    vocabulary: config.integer('vocab_size'),
    width: config.integer('d_model'),
    heads: config.integer('num_heads'),
    headWidth: config.integer('d_kv'),
    feedForwardWidth: config.integer('d_ff'),
    layers: config.integer('num_layers'),
    positionBuckets: config.integer('relative_attention_num_buckets', 32),
    maxDistance: config.integer('relative_attention_max_distance', 128),
    epsilon: config.number('layer_norm_epsilon', 1e-6),
  }
}

/** Expected key → other keys of the same tensor: the embedding is tied, and saved under either or both of its names. */
export const t5Aliases: ReadonlyMap<string, readonly string[]> = new Map([
  ['shared.weight', ['encoder.embed_tokens.weight']],
])

/** input_ids int32 (B, T), mask float32 (B, T) with 1 for tokens and 0 for padding → hidden float32 (B, T, D). */
export function t5Encoder(config: T5Config, lowering: LoweringName, storage?: WeightStorage): Graph {
  const [B, T] = [symbol('B'), symbol('T')]
  const inputIds = input('input_ids', 'int32', [B, T])
  const mask = input('mask', 'float32', [B, T])
  const ops = lowerings[lowering]
  const model = Scope.root('float32', storage)
  const encoder = model.at('encoder')

  let hidden = embedding(model.at('shared'), inputIds, config.vocabulary, config.width) // (B, T, D)
  const bias = Add(positionBias(encoder, config, inputIds), paddingBias(mask)) // (B, H, T, T)
  for (let i = 0; i < config.layers; i++) {
    const attention = encoder.at('block', i, 'layer', 0)
    hidden = Add(hidden, selfAttention(attention, norm(attention.at('layer_norm'), hidden, config, ops), bias, config, ops))
    const feedForward = encoder.at('block', i, 'layer', 1)
    hidden = Add(hidden, gatedGelu(feedForward, norm(feedForward.at('layer_norm'), hidden, config, ops), config, ops))
  }
  return graph('t5_encoder', [inputIds, mask], { hidden: norm(encoder.at('final_layer_norm'), hidden, config, ops) })
}

const norm = (scope: Scope, x: Value, { width, epsilon }: T5Config, ops: Lowering): Value =>
  ops.rmsNorm(x, scope.parameter('weight', [width]), epsilon)

function selfAttention(scope: Scope, x: Value, bias: Value, config: T5Config, ops: Lowering): Value {
  const { heads, headWidth, width } = config
  const project = (name: string): Value =>
    linear(scope.at('SelfAttention', name), x, heads * headWidth, { bias: false }) // (B, T, H·d)
  const mixed = ops.attention(
    { query: project('q'), key: project('k'), value: project('v'), bias },
    { heads, headWidth, scale: 1 },
  )
  return linear(scope.at('SelfAttention', 'o'), mixed, width, { bias: false }) // (B, T, D)
}

function gatedGelu(scope: Scope, x: Value, { feedForwardWidth, width }: T5Config, ops: Lowering): Value {
  const dense = scope.at('DenseReluDense')
  const gate = ops.geluTanh(linear(dense.at('wi_0'), x, feedForwardWidth, { bias: false }))
  const value = linear(dense.at('wi_1'), x, feedForwardWidth, { bias: false })
  return linear(dense.at('wo'), Mul(gate, value), width, { bias: false }) // (B, T, D)
}

/** 0 for tokens and the least float32 for padding, along the keys: (B, 1, 1, T). */
function paddingBias(mask: Value): Value {
  const leastFloat32 = -3.4028234663852886e38
  return Unsqueeze(Mul(Sub(scalar(1), mask), scalar(leastFloat32)), [1, 2])
}

/** A learned bias for every head and bucket of key position − query position: (1, H, T, T). */
function positionBias(encoder: Scope, config: T5Config, inputIds: Value): Value {
  const { positionBuckets, maxDistance, heads } = config
  const table = encoder
    .at('block', 0, 'layer', 0, 'SelfAttention', 'relative_attention_bias')
    .parameter('weight', [positionBuckets, heads])
  const distances = Array.from({ length: 2 * maxDistance + 1 }, (_, i) => i - maxDistance)
  const buckets = distances.map((distance) => positionBucket(distance, config))
  const byDistance = Gather(table, constant('int64', [buckets.length], buckets)) // (2·maxDistance + 1, H)

  const length = Squeeze(Shape(inputIds, { start: 1, end: 2 }), [0])
  const positions = Range(scalar(0, 'int64'), length, scalar(1, 'int64')) // (T)
  const distance = Sub(Unsqueeze(positions, [0]), Unsqueeze(positions, [1])) // (T queries, T keys)
  const index = Add(Clip(distance, scalar(-maxDistance, 'int64'), scalar(maxDistance, 'int64')), integers(maxDistance))
  return Unsqueeze(Transpose(Gather(byDistance, index), [2, 0, 1]), [0]) // (1, H, T, T)
}

/**
 * Half of the buckets for each direction; of these, half for one distance each and half growing logarithmically up to
 * maxDistance, beyond which all distances share the last. Rounded at every step as float32, as the reference does.
 */
export function positionBucket(
  distance: number,
  { positionBuckets, maxDistance }: Pick<T5Config, 'positionBuckets' | 'maxDistance'>,
): number {
  const perDirection = Math.floor(positionBuckets / 2)
  const exact = Math.floor(perDirection / 2)
  const offset = distance > 0 ? perDirection : 0
  const size = Math.abs(distance)
  if (size < exact) return offset + size
  const { fround } = Math
  const share = fround(fround(Math.log(fround(size / exact))) / fround(Math.log(maxDistance / exact)))
  return offset + Math.min(exact + Math.trunc(fround(share * (perDirection - exact))), perDirection - 1)
}
