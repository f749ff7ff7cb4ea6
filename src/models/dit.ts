/**
 * DiT (Peebles & Xie 2023, arXiv 2212.09748, the adaLN-Zero variant) as diffusers' `Transformer2DModel` with `ada_norm_zero` computes
 * it: the class-conditional model that PixArt-α begins with. Every block has an embedding of timestep and class, and a modulation
 * from it, of its own.
 *
 * Shapes: R rows, N image tokens, D width, p patch side, C latent channels.
 */
import { symbol } from '../graph/dimension.ts'
import { graph, input, integers, type Graph, type Value } from '../graph/ir.ts'
import { Add, Mul, Reshape } from '../graph/ops.ts'
import { Scope } from '../graph/scope.ts'
import { ConfigReader, type ConfigFields } from './config-reader.ts'
import { embedding, linear } from './layers.ts'
import { lowerings, type Lowering, type LoweringName } from './lowering.ts'
import {
  attention,
  chunks,
  feedForward,
  modulate,
  patchEmbedding,
  positionEmbedding,
  project,
  projectOut,
  readBackboneConfig,
  timestepEmbedding,
  type BackboneConfig,
} from './pixart.ts'

export interface DitConfig extends BackboneConfig {
  /** The class of that number, one beyond the last, is none. */
  readonly classes: number
}

/** @throws {ModelConfigError} naming the field that is wrong or not covered */
export function readDitConfig(json: ConfigFields): DitConfig {
  const config = new ConfigReader('transformer', json)
  config.require('norm_type', 'ada_norm_zero')
  config.require('cross_attention_dim', null)
  const backbone = readBackboneConfig(config)
  const { heads, headWidth } = backbone
  config.demand('attention_head_dim', 'a width of heads × head that 4 divides', () => (heads * headWidth) % 4 === 0)
  return { ...backbone, classes: config.integer('num_embeds_ada_norm') }
}

/** Of every layer normalisation but the blocks' second, whatever the configuration says. */
const epsilon = 1e-6

/**
 * tokens (R, N, C·p·p), coords (R, N, 2), timestep (R), all float32 and as `pixart` takes them, and class int32 (R) → output
 * (R, N, outC·p·p), as pixart's.
 */
export function dit(config: DitConfig, lowering: LoweringName): Graph {
  const ops = lowerings[lowering]
  const model = Scope.root()
  const [R, N] = [symbol('R'), symbol('N')]
  const width = config.heads * config.headWidth
  const tokens = input('tokens', 'float32', [R, N, config.inChannels * config.patchSize ** 2])
  const coords = input('coords', 'float32', [R, N, 2])
  const timestep = input('timestep', 'float32', [R])
  const label = input('class', 'int32', [R])
  const blocks = model.at('transformer_blocks')
  const condition = (block: number): Value => ops.silu(embedded(blocks.at(block, 'norm1', 'emb'), timestep, label, config, ops))

  let hidden: Value = Add(patchEmbedding(model.at('pos_embed'), tokens, config), positionEmbedding(coords, width)) // (R, N, D)
  for (let i = 0; i < config.layers; i++) hidden = block(blocks.at(i), hidden, condition(i), config, ops)
  const modulation = linear(model.at('proj_out_1'), condition(0), 2 * width)
  const [shift, scale] = chunks(Reshape(modulation, integers(0, 2, width)), 2) // (R, 1, D) each
  const output = projectOut(model.at('proj_out_2'), modulate(ops.layerNorm(hidden, epsilon), shift, scale), config)
  return graph('dit', [tokens, coords, timestep, label], { output })
}

/** Timestep and class: (R, D). */
function embedded(scope: Scope, timestep: Value, label: Value, { heads, headWidth, classes }: DitConfig, ops: Lowering): Value {
  const width = heads * headWidth
  const ofClass = embedding(scope.at('class_embedder', 'embedding_table'), label, classes + 1, width)
  return Add(timestepEmbedding(scope.at('timestep_embedder'), timestep, width, ops, { frequencyShift: 1 }), ofClass)
}

function block(scope: Scope, x: Value, condition: Value, config: DitConfig, ops: Lowering): Value {
  const width = config.heads * config.headWidth
  const modulation = linear(scope.at('norm1', 'linear'), condition, 6 * width)
  const [shiftAttention, scaleAttention, gateAttention, shiftFeedForward, scaleFeedForward, gateFeedForward] = chunks(
    Reshape(modulation, integers(0, 6, width)), // (R, 6, D)
    6,
  )
  const self = scope.at('attn1')
  const modulated = modulate(ops.layerNorm(x, epsilon), shiftAttention, scaleAttention)
  const own = { key: project(self, 'to_k', modulated, config), value: project(self, 'to_v', modulated, config) }
  const attended = Add(x, Mul(gateAttention, attention(self, modulated, own, config, ops)))
  const features = modulate(ops.layerNorm(attended, config.epsilon), shiftFeedForward, scaleFeedForward)
  return Add(attended, Mul(gateFeedForward, feedForward(scope.at('ff', 'net'), features, ops))) // (R, N, D)
}
