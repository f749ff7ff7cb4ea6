/**
 * PixArt-α's transformer (Chen et al. 2023, arXiv 2310.00426, figure 4) as diffusers' `Transformer2DModel` computes it: DiT
 * blocks with cross-attention to the text and adaLN-single, that is one modulation from the timestep for all blocks, to which
 * each adds its own table. It takes patch tokens and their coordinates, so that pictures of different shapes share a batch.
 *
 * Shapes: R rows, N image tokens, T text tokens, D width, p patch side, C latent channels.
 */
import { symbol } from '../graph/dimension.ts'
import { constant, graph, input, integers, lastAxis, scalar, type Graph, type Input, type Value } from '../graph/ir.ts'
import { Add, Concat, Cos, Expand, Gather, Mul, Reshape, Sin, Split, Squeeze, Sub, Transpose, Unsqueeze } from '../graph/ops.ts'
import { Scope, type WeightStorage } from '../graph/scope.ts'
import { ConfigReader, type ConfigFields } from './config-reader.ts'
import { affine, linear, linearOfColumns, overRows, reshape } from './layers.ts'
import { lowerings, type Attention, type Lowering, type LoweringName } from './lowering.ts'
import { exp32 } from './single-precision.ts'

export interface PixArtConfig {
  readonly heads: number
  readonly headWidth: number
  readonly layers: number
  readonly patchSize: number
  readonly inChannels: number
  readonly outChannels: number
  readonly captionWidth: number
  readonly attentionBias: boolean
  readonly epsilon: number
  /** Side of the latents that the model was made for. */
  readonly sampleSize: number
  /** Divides the position grid. */
  readonly interpolationScale: number
  /** Conditioned on the picture's resolution and aspect ratio as well. */
  readonly microConditioned: boolean
}

/** What its blocks have in common with DiT's. */
export type BackboneConfig = Omit<PixArtConfig, 'captionWidth' | 'microConditioned'>

/** What a DiT's configuration says in the same fields. @throws {ModelConfigError} naming the field that is wrong or not covered */
export function readBackboneConfig(config: ConfigReader): BackboneConfig {
  config.require('activation_fn', 'gelu-approximate')
  config.require('norm_elementwise_affine', false)
  const inChannels = config.integer('in_channels')
  const sampleSize = config.integer('sample_size')
  return {
    heads: config.integer('num_attention_heads'),
    headWidth: config.integer('attention_head_dim'),
    layers: config.integer('num_layers'),
    patchSize: config.integer('patch_size'),
    inChannels,
    outChannels: config.integer('out_channels', inChannels),
    attentionBias: config.boolean('attention_bias', false),
    epsilon: config.number('norm_eps', 1e-5),
    sampleSize,
    interpolationScale: config.number('interpolation_scale', Math.max(Math.floor(sampleSize / 64), 1)),
  }
}

/** @throws {ModelConfigError} naming the field that is wrong or not covered */
export function readPixArtConfig(json: ConfigFields): PixArtConfig {
  const config = new ConfigReader('transformer', json)
  config.require('norm_type', 'ada_norm_single')
  const backbone = readBackboneConfig(config)
  const width = backbone.heads * backbone.headWidth
  config.require('cross_attention_dim', width)
  const microConditioned = config.boolean('use_additional_conditions', backbone.sampleSize === 128)
  const parts = microConditioned ? 12 : 4
  config.demand('attention_head_dim', `a width of heads × head that ${parts} divides`, () => width % parts === 0)
  return { ...backbone, captionWidth: config.integer('caption_channels'), microConditioned }
}

/** Buffers that checkpoints of some diffusers versions carry and that serving never reads. */
export const pixartOptional: ReadonlySet<string> = new Set(['caption_projection.y_embedding', 'pos_embed.pos_embed'])

const frequencyWidth = 256
const paddingPenalty = -10000

/**
 * The whole model. Inputs, all float32: tokens (R, N, C·p·p), each in the order (C, p, p); coords (R, N, 2), row and column of
 * each token's patch, scaled to the grid that the model was made for as diffusers' get_2d_sincos_pos_embed scales them; timestep
 * (R); text (R, T, captionWidth); mask (R, T), 1 for tokens and 0 for padding; when micro-conditioned also resolution (R, 2),
 * height and width in pixels, and aspect_ratio (R, 1), height / width.
 * Output (R, N, outC·p·p), each in the order (outC, p, p): the first C·p·p numbers are the noise prediction.
 */
export function pixart(config: PixArtConfig, lowering: LoweringName, storage?: WeightStorage): Graph {
  const model = Scope.root('float32', storage)
  const ops = lowerings[lowering]
  const { tokens, coords, mask } = stepInputs(config)
  const [text, times] = [textInput(config), timeInputs(config)]
  const caption = captionProjection(model.at('caption_projection'), text, config, ops)
  const output = predictNoise(
    model,
    { tokens, coords, mask, ...timeConditions(model, times, config, ops) },
    (layer) => contextOf(model.at('transformer_blocks', layer), caption, config),
    config,
    ops,
  )
  const { timestep, ...sizes } = times
  return graph('pixart', [tokens, coords, timestep, text, mask, ...Object.values(sizes)], { output })
}

/**
 * The same model for serving, as three graphs, so that what does not change from step to step is not computed at every step.
 *
 * `context`: text (R, T, captionWidth) → context (R, 2·layers, T, D), each block's keys, then its values, of the cross-attention.
 * `timing`: timestep (R) and, when micro-conditioned, resolution (R, 2) and aspect_ratio (R, 1) → embedded (R, D), modulation (R, 6·D).
 * `step`: tokens, coords, mask and output as in `pixart`; context, embedded and modulation from the other two.
 */
export function pixartParts(
  config: PixArtConfig,
  lowering: LoweringName,
  storage?: WeightStorage,
): { readonly context: Graph; readonly timing: Graph; readonly step: Graph } {
  const ops = lowerings[lowering]
  const root = () => Scope.root('float32', storage)
  return {
    context: contextGraph(root(), config, ops),
    timing: timingGraph(root(), config, ops),
    step: stepGraph(root(), config, ops),
  }
}

function contextGraph(model: Scope, config: PixArtConfig, ops: Lowering): Graph {
  const text = textInput(config)
  const caption = captionProjection(model.at('caption_projection'), text, config, ops)
  const layers = Array.from({ length: config.layers }, (_, layer) =>
    contextOf(model.at('transformer_blocks', layer), caption, config),
  )
  const context = Concat(
    layers.flatMap(({ key, value }) => [key, value]).map((x) => Unsqueeze(x, [1])),
    { axis: 1 },
  )
  return graph('pixart_context', [text], { context })
}

function timingGraph(model: Scope, config: PixArtConfig, ops: Lowering): Graph {
  const times = timeInputs(config)
  return graph('pixart_timing', Object.values(times), { ...timeConditions(model, times, config, ops) })
}

function stepGraph(model: Scope, config: PixArtConfig, ops: Lowering): Graph {
  const { tokens, coords, mask } = stepInputs(config)
  const width = config.heads * config.headWidth
  const embedded = input('embedded', 'float32', [symbol('R'), width])
  const modulation = input('modulation', 'float32', [symbol('R'), 6 * width])
  const context = input('context', 'float32', [symbol('R'), 2 * config.layers, symbol('T'), width])
  const contexts = Split(context, { axis: 1, num_outputs: 2 * config.layers }).map((x) => Squeeze(x, [1]))
  const output = predictNoise(
    model,
    { tokens, coords, mask, embedded, modulation },
    (layer) => ({ key: contexts[2 * layer]!, value: contexts[2 * layer + 1]! }),
    config,
    ops,
  )
  return graph('pixart_step', [tokens, coords, mask, embedded, modulation, context], { output })
}

/**
 * The same model for training with little memory, as three graphs of which one is run for every block.
 *
 * `entrance`: tokens, coords, text and what `timing` takes → hidden (R, N, D), modulation (R, 6·D), embedded (R, D), caption (R, T, D).
 * `block`: hidden, modulation, caption and mask → result, the next one's hidden; its parameters are named as within a block.
 * `exit`: hidden and embedded → output.
 */
export function pixartBlocks(
  config: PixArtConfig,
  lowering: LoweringName,
): { readonly entrance: Graph; readonly block: Graph; readonly exit: Graph } {
  const ops = lowerings[lowering]
  const width = config.heads * config.headWidth
  const [R, N, T] = [symbol('R'), symbol('N'), symbol('T')]
  const { tokens, coords, mask } = stepInputs(config)
  const [text, times] = [textInput(config), timeInputs(config)]
  const hidden = input('hidden', 'float32', [R, N, width])
  const modulation = input('modulation', 'float32', [R, 6 * width])
  const embedded = input('embedded', 'float32', [R, width])
  const caption = input('caption', 'float32', [R, T, width])

  const model = Scope.root()
  const entrance = {
    hidden: embedPatches(model, tokens, coords, config),
    ...timeConditions(model, times, config, ops),
    caption: captionProjection(model.at('caption_projection'), text, config, ops),
  }
  const within = Scope.root()
  const conditions = { modulation, ...contextOf(within, caption, config), contextBias: biasOf(within, hidden, mask) }
  return {
    entrance: graph('pixart_entrance', [tokens, coords, text, ...Object.values(times)], entrance),
    block: graph('pixart_block', [hidden, modulation, caption, mask], {
      result: block(within, hidden, conditions, config, ops),
    }),
    exit: graph('pixart_exit', [hidden, embedded], { output: finish(Scope.root(), hidden, embedded, config, ops) }),
  }
}

const textInput = ({ captionWidth }: PixArtConfig): Input =>
  input('text', 'float32', [symbol('R'), symbol('T'), captionWidth])

function stepInputs({ inChannels, patchSize }: PixArtConfig) {
  const [R, N, T] = [symbol('R'), symbol('N'), symbol('T')]
  return {
    tokens: input('tokens', 'float32', [R, N, inChannels * patchSize ** 2]),
    coords: input('coords', 'float32', [R, N, 2]),
    mask: input('mask', 'float32', [R, T]),
  }
}

interface TimeInputs {
  readonly timestep: Input // (R)
  readonly resolution?: Input // (R, 2)
  readonly aspect_ratio?: Input // (R, 1)
}

function timeInputs({ microConditioned }: PixArtConfig): TimeInputs {
  const R = symbol('R')
  const timestep = input('timestep', 'float32', [R])
  if (!microConditioned) return { timestep }
  return {
    timestep,
    resolution: input('resolution', 'float32', [R, 2]),
    aspect_ratio: input('aspect_ratio', 'float32', [R, 1]),
  }
}

interface TimeConditions {
  readonly embedded: Value // (R, D)
  readonly modulation: Value // (R, 6·D)
}

function timeConditions(model: Scope, { timestep, resolution, aspect_ratio }: TimeInputs, config: PixArtConfig, ops: Lowering): TimeConditions {
  const width = config.heads * config.headWidth
  const adaln = model.at('adaln_single')
  let embedded = timestepEmbedding(adaln.at('emb', 'timestep_embedder'), timestep, width, ops)
  if (resolution && aspect_ratio) {
    embedded = Add(embedded, sizeEmbedding(adaln.at('emb'), resolution, aspect_ratio, width, ops))
  }
  return { embedded, modulation: linear(adaln.at('linear'), ops.silu(embedded), 6 * width) }
}

interface Context {
  readonly key: Value // (R, T, D)
  readonly value: Value // (R, T, D)
}

/** What one block's cross-attention makes of the text. */
function contextOf(block: Scope, caption: Value, config: PixArtConfig): Context {
  const scope = block.at('attn2')
  return { key: project(scope, 'to_k', caption, config), value: project(scope, 'to_v', caption, config) }
}

interface StepValues extends TimeConditions {
  readonly tokens: Value
  readonly coords: Value
  readonly mask: Value
}

function predictNoise(
  model: Scope,
  { tokens, coords, mask, embedded, modulation }: StepValues,
  context: (layer: number) => Context,
  config: PixArtConfig,
  ops: Lowering,
): Value {
  const contextBias = biasOf(model, tokens, mask)
  let hidden = embedPatches(model, tokens, coords, config)
  for (let i = 0; i < config.layers; i++) {
    const conditions = { modulation, ...context(i), contextBias }
    hidden = block(model.at('transformer_blocks', i), hidden, conditions, config, ops)
  }
  return finish(model, hidden, embedded, config, ops)
}

/** What hides the padding from the cross-attentions: (R, 1, N, T). */
const biasOf = (model: Scope, tokens: Value, mask: Value): Value =>
  Expand(paddingBias(mask), model.shape([symbol('R'), 1, symbol('N'), symbol('T')], tokens, mask))

/** What comes into the first block: (R, N, D). */
const embedPatches = (model: Scope, tokens: Value, coords: Value, config: PixArtConfig): Value =>
  Add(patchEmbedding(model.at('pos_embed'), tokens, config), positionEmbedding(coords, config.heads * config.headWidth))

/** What the last block's result becomes: (R, N, outC·p·p). */
function finish(model: Scope, hidden: Value, embedded: Value, config: PixArtConfig, ops: Lowering): Value {
  const width = config.heads * config.headWidth
  const table = model.parameter('scale_shift_table', [2, width])
  const [shift, scale] = chunks(Add(table, Unsqueeze(embedded, [1])), 2) // (R, 1, D) each
  return projectOut(model.at('proj_out'), modulate(ops.layerNorm(hidden, config.epsilon), shift, scale), config)
}

interface Conditions extends Context {
  readonly modulation: Value // (R, 6·D)
  readonly contextBias: Value // (R, 1, N, T)
}

/** Self-attention and feed-forward modulated and gated by the timestep; cross-attention between them is neither. */
function block(scope: Scope, x: Value, { modulation, key, value, contextBias }: Conditions, config: PixArtConfig, ops: Lowering): Value {
  const { epsilon } = config
  const width = lastAxis(x)
  const table = scope.parameter('scale_shift_table', [6, width])
  const [shiftAttention, scaleAttention, gateAttention, shiftFeedForward, scaleFeedForward, gateFeedForward] = chunks(
    Add(Reshape(modulation, integers(0, 6, width)), table), // (R, 6, D)
    6,
  )

  const [self, cross] = [scope.at('attn1'), scope.at('attn2')]
  const modulated = modulate(ops.layerNorm(x, epsilon), shiftAttention, scaleAttention)
  const own = { key: project(self, 'to_k', modulated, config), value: project(self, 'to_v', modulated, config) }
  const attended = Add(x, Mul(gateAttention, attention(self, modulated, own, config, ops)))
  const informed = Add(attended, attention(cross, attended, { key, value, bias: contextBias }, config, ops))
  const features = modulate(ops.layerNorm(informed, epsilon), shiftFeedForward, scaleFeedForward)
  return Add(informed, Mul(gateFeedForward, feedForward(scope.at('ff', 'net'), features, ops))) // (R, N, D)
}

export function attention(
  scope: Scope,
  x: Value,
  context: Omit<Attention, 'query'>,
  config: BackboneConfig,
  ops: Lowering,
): Value {
  const { heads, headWidth } = config
  const query = project(scope, 'to_q', x, config)
  const mixed = ops.attention({ query, ...context }, { heads, headWidth, scale: 1 / Math.sqrt(headWidth) })
  return linear(scope.at('to_out', 0), mixed, heads * headWidth)
}

export const project = (attention: Scope, name: 'to_q' | 'to_k' | 'to_v', x: Value, config: BackboneConfig): Value =>
  linear(attention.at(name), x, config.heads * config.headWidth, { bias: config.attentionBias })

export function feedForward(scope: Scope, x: Value, ops: Lowering): Value {
  const [first, second, width] = [scope.at(0, 'proj'), scope.at(2), lastAxis(x)]
  if (ops.feedForward === 'rows') return linear(second, ops.geluTanh(linear(first, x, 4 * width)), width)
  // Between the two axes a reshape keeps the library from making the turn a part of the products.
  const columns = Reshape(Transpose(x, [2, 0, 1]), integers(width, -1)) // (D, R·N)
  const hidden = ops.geluTanh(linearOfColumns(first, columns, 4 * width)) // (4·D, R·N)
  const result = linearOfColumns(second, hidden, width) // (D, R·N)
  const [R, N, D] = x.shape
  return Transpose(reshape(scope, result, [D!, R!, N!], x), [1, 2, 0]) // (R, N, D)
}

export const modulate = (x: Value, shift: Value, scale: Value): Value => Add(Mul(x, Add(scale, scalar(1))), shift)

/** The patches' convolution as a product: a token holds its patch in the order of the kernel's (C, p, p). */
export function patchEmbedding(scope: Scope, tokens: Value, { inChannels, patchSize, heads, headWidth }: BackboneConfig): Value {
  const width = heads * headWidth
  const proj = scope.at('proj')
  const kernel = proj.parameter('weight', [width, inChannels, patchSize, patchSize])
  return affine(proj, tokens, Reshape(kernel, integers(width, -1)), proj.parameter('bias', [width])) // (R, N, D)
}

/** diffusers orders an output patch (p, p, outC); (outC, p, p) puts the noise prediction first. */
export function projectOut(scope: Scope, x: Value, { outChannels, patchSize }: BackboneConfig): Value {
  const width = lastAxis(x)
  const area = patchSize ** 2
  const weight = scope.parameter('weight', [area * outChannels, width])
  const bias = scope.parameter('bias', [area * outChannels])
  const channelsFirst = Transpose(Reshape(weight, integers(area, outChannels, width)), [1, 0, 2])
  return affine(
    scope,
    x,
    Reshape(channelsFirst, integers(-1, width)),
    Reshape(Transpose(Reshape(bias, integers(area, outChannels)), [1, 0]), integers(-1)),
  ) // (R, N, outC·p·p)
}

/** Sines and cosines (Vaswani et al. 2017, section 3.5) of the column, then of the row: (R, N, D). */
export function positionEmbedding(coords: Value, width: number): Value {
  const count = width / 4
  const frequencies = Float32Array.from({ length: count }, (_, i) => 10000 ** (-i / count))
  const columnFirst = Unsqueeze(Gather(coords, integers(1, 0), { axis: 2 }), [3]) // (R, N, 2, 1)
  const angles = Mul(columnFirst, constant('float32', [count], frequencies)) // (R, N, 2, D/4)
  return Reshape(Concat([Sin(angles), Cos(angles)], { axis: 3 }), integers(0, 0, width))
}

/**
 * How fast each sinusoid of a number turns, from 1 to about 10⁻⁴: (128).
 * @param shift diffusers' downscale_freq_shift
 */
export function timestepFrequencies(shift: 0 | 1): Float32Array<ArrayBuffer> {
  const { fround } = Math
  const count = frequencyWidth / 2
  return Float32Array.from({ length: count }, (_, i) => exp32(fround(fround(fround(-Math.log(10000)) * i) / (count - shift))))
}

interface TimestepOptions {
  readonly frequencyShift?: 0 | 1
}

/** Sinusoids of a number (Ho et al. 2020, as diffusers: cosines first) through a small MLP: (…, width). */
export function timestepEmbedding(
  scope: Scope,
  timestep: Value,
  width: number,
  ops: Lowering,
  { frequencyShift = 0 }: TimestepOptions = {},
): Value {
  const frequencies = timestepFrequencies(frequencyShift)
  const angles = Mul(Unsqueeze(timestep, [timestep.shape.length]), constant('float32', [frequencies.length], frequencies)) // (…, 128)
  const sinusoids = Concat([Cos(angles), Sin(angles)], { axis: -1 }) // (…, 256)
  const first = scope.at('linear_1')
  const [weight, bias] = [first.parameter('weight', [width, frequencyWidth]), first.parameter('bias', [width])]
  const hidden = overRows(first, sinusoids, (rows) => ops.cancellingProduct(rows, weight, bias))
  return linear(scope.at('linear_2'), ops.silu(hidden), width)
}

/** Height, width and aspect ratio, a third of the width each: (R, D). */
function sizeEmbedding(scope: Scope, resolution: Value, aspectRatio: Value, width: number, ops: Lowering): Value {
  const embed = (name: string, sizes: Value): Value =>
    Reshape(timestepEmbedding(scope.at(name), sizes, width / 3, ops), integers(0, -1))
  return Concat([embed('resolution_embedder', resolution), embed('aspect_ratio_embedder', aspectRatio)], { axis: 1 })
}

function captionProjection(scope: Scope, text: Value, { heads, headWidth }: PixArtConfig, ops: Lowering): Value {
  const width = heads * headWidth
  return linear(scope.at('linear_2'), ops.geluTanh(linear(scope.at('linear_1'), text, width)), width) // (R, T, D)
}

const paddingBias = (mask: Value): Value => Unsqueeze(Mul(Sub(scalar(1), mask), scalar(paddingPenalty)), [1, 2]) // (R, 1, 1, T)

/** (R, n, D) → n values (R, 1, D). */
export function chunks<Count extends 2 | 6>(x: Value, count: Count): Chunks[Count] {
  return Split(x, { axis: 1, num_outputs: count }) as unknown as Chunks[Count]
}
interface Chunks {
  2: readonly [Value, Value]
  6: readonly [Value, Value, Value, Value, Value, Value]
}
