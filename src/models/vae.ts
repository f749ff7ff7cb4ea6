/**
 * The autoencoder of latent diffusion (Rombach et al. 2022, arXiv 2112.10752, appendix G; Kingma & Welling 2014 for the Gaussian
 * code) as diffusers' `AutoencoderKL` computes it: residual convolutions over halving (encoder) or doubling (decoder) sizes,
 * with one attention over all positions at the smallest.
 *
 * Shapes: B pictures, C channels, h × w latents, H × W size at hand, G groups.
 */
import { multiply, symbol, type Dimension } from '../graph/dimension.ts'
import {
  graph,
  input,
  integers,
  knownAxis,
  scalar,
  type Graph,
  type Input,
  type Value,
} from '../graph/ir.ts'
import { Add, Clip, Concat, Conv, Mul, Reshape, Slice, Split, Transpose, Unsqueeze } from '../graph/ops.ts'
import { Scope } from '../graph/scope.ts'
import { ConfigReader, type ConfigFields } from './config-reader.ts'
import { conv2d, linear, reshape } from './layers.ts'
import { lowerings, type Lowering, type LoweringName } from './lowering.ts'

export interface VaeConfig {
  readonly imageChannels: number
  readonly latentChannels: number
  /** Channels at each size, from the largest. */
  readonly channels: readonly number[]
  readonly layersPerBlock: number
  readonly groups: number
  /** Latents are the code times this. */
  readonly scalingFactor: number
}

/** @throws {ModelConfigError} naming the field that is wrong or not covered */
export function readVaeConfig(json: ConfigFields): VaeConfig {
  const config = new ConfigReader('vae', json)
  config.require('act_fn', 'silu', 'silu')
  config.requireEach('down_block_types', 'DownEncoderBlock2D')
  config.requireEach('up_block_types', 'UpDecoderBlock2D')
  config.require('out_channels', config.integer('in_channels', 3), 3)
  config.require('mid_block_add_attention', true, true)
  config.require('use_quant_conv', true, true)
  config.require('use_post_quant_conv', true, true)
  config.require('latents_mean', null)
  config.require('shift_factor', null)
  return {
    imageChannels: config.integer('in_channels', 3),
    latentChannels: config.integer('latent_channels', 4),
    channels: config.integers('block_out_channels'),
    layersPerBlock: config.integer('layers_per_block', 1),
    groups: config.integer('norm_num_groups', 32),
    scalingFactor: config.number('scaling_factor', 0.18215),
  }
}

/** Pixels along one side of a latent. */
export const vaeDownsampling = ({ channels }: VaeConfig): number => 2 ** (channels.length - 1)

/** Of every normalisation. */
export const epsilon = 1e-6

/**
 * image float32 (B, 3, 8·h, 8·w) in −1 … 1 → mean and logvar (B, 4, h, w) of the code, not yet scaled.
 * @param multiple what the sides of the code are multiples of: with 2 they are 2·h and 2·w
 */
export function vaeEncoder(config: VaeConfig, lowering: LoweringName, multiple = 1): Graph {
  const side = (name: string): Dimension => multiply(symbol(name), multiple * vaeDownsampling(config))
  const image = input('image', 'float32', [symbol('B'), config.imageChannels, side('h'), side('w')])
  const { layersPerBlock, channels, latentChannels } = config
  const layers = new Layers(config, lowerings[lowering])
  const model = Scope.root()
  const encoder = model.at('encoder')

  let x: Value = conv2d(encoder.at('conv_in'), image, { channels: widest(channels, 0), kernel: 3 }) // (B, C, H, W)
  for (const [i, width] of channels.entries()) {
    const block = encoder.at('down_blocks', i)
    for (let j = 0; j < layersPerBlock; j++) x = layers.residual(block.at('resnets', j), x, width)
    if (i < channels.length - 1) x = halve(block.at('downsamplers', 0, 'conv'), x)
  }
  x = layers.middle(encoder.at('mid_block'), x)
  x = layers.normalisedSilu(encoder.at('conv_norm_out'), x)
  x = conv2d(encoder.at('conv_out'), x, { channels: 2 * latentChannels, kernel: 3 })
  x = conv2d(model.at('quant_conv'), x, { channels: 2 * latentChannels, kernel: 1 }) // (B, 2·4, h, w)
  const [mean, logvar] = Split(x, { axis: 1, num_outputs: 2 })
  if (mean === undefined || logvar === undefined) throw new TypeError('a split in two has two parts')
  return graph('vae_encoder', [image], { mean, logvar: Clip(logvar, scalar(-30), scalar(20)) })
}

/** latents float32 (B, 4, h, w), already divided by the scaling factor → image (B, 3, 8·h, 8·w), about −1 … 1. */
export function vaeDecoder(config: VaeConfig, lowering: LoweringName): Graph {
  const latents = decoderInput('latents', config.latentChannels)
  const image = decode(config, lowering, { latents, cut: (x) => x })
  return graph('vae_decoder', [latents], { image })
}

/**
 * The same decoder as graphs to run one after the other, so that other work fits between them. The first takes `latents`; part
 * k − 1 gives `hidden_k` (B, C, H, W) and part k takes it; the last gives `image`.
 *
 * At the smallest size all is one part. At every other there are three: the convolution that doubles to it, the first residual
 * layer, and the other ones, with the output in the last. Of the multiplications in the layers of a full-size decoder (128,
 * 256, 512 and 512 channels) these have 10 | 2, 7, 15 | 7, 12, 15 | 7, 12, 15 percent. The products of attention, in the first
 * part, add 1 percent to the whole at 512² pixels and 6 at 1024².
 */
export function vaeDecoderParts(config: VaeConfig, lowering: LoweringName): readonly Graph[] {
  const parts: Graph[] = []
  let entrance = decoderInput('latents', config.latentChannels)
  const finish = (outputs: Readonly<Record<string, Value>>): void => {
    parts.push(graph(`vae_decoder_${parts.length}`, [entrance], outputs))
  }
  const cut = (x: Value): Value => {
    const name = `hidden_${parts.length + 1}`
    finish({ [name]: x })
    entrance = decoderInput(name, knownAxis(x, 1), `_${parts.length}`)
    return entrance
  }
  finish({ image: decode(config, lowering, { latents: entrance, cut }) })
  return parts
}

/** @param suffix tells the sizes of one part's input from those of another's */
function decoderInput(name: string, channels: number, suffix = ''): Input {
  return input(name, 'float32', [symbol(`B${suffix}`), channels, symbol(`h${suffix}`), symbol(`w${suffix}`)])
}

/** @param cut is given what one part ends with and returns what the next one begins with */
function decode(
  config: VaeConfig,
  lowering: LoweringName,
  { latents, cut }: { readonly latents: Value; readonly cut: (x: Value) => Value },
): Value {
  const layers = new Layers(config, lowerings[lowering])
  let x = latents
  const model = Scope.root()
  for (const [part, itsLayers] of decoderLayers(config).entries()) {
    if (part > 0) x = cut(x)
    for (const layer of itsLayers) x = layers.decode(model.at(layer.path), layer, x)
  }
  return x // (B, 3, 8·h, 8·w)
}

/** A layer of the decoder, its place in the checkpoint, and how many channels come in and go out. */
export interface DecoderLayer {
  readonly kind: 'entrance' | 'residual' | 'double' | 'exit'
  readonly path: string
  readonly entering: number
  readonly channels: number
}

/**
 * The layers of the decoder, part by part. The entrance, which holds the attention and all else before the first residual layer
 * of a block, comes first.
 */
export function decoderLayers({
  layersPerBlock,
  channels,
  latentChannels,
  imageChannels,
}: VaeConfig): readonly (readonly DecoderLayer[])[] {
  let entering = widest(channels, -1)
  let part: DecoderLayer[] = [{ kind: 'entrance', path: '', entering: latentChannels, channels: entering }]
  const parts = [part]
  const cut = (): void => {
    part = []
    parts.push(part)
  }
  for (const [i, width] of channels.toReversed().entries()) {
    const block = `decoder.up_blocks.${i}`
    for (let j = 0; j <= layersPerBlock; j++) {
      part.push({ kind: 'residual', path: `${block}.resnets.${j}`, entering, channels: width })
      entering = width
      if (i > 0 && j === 0) cut()
    }
    if (i < channels.length - 1) {
      cut()
      part.push({ kind: 'double', path: `${block}.upsamplers.0.conv`, entering, channels: width })
      cut()
    }
  }
  part.push({ kind: 'exit', path: 'decoder', entering, channels: imageChannels })
  return parts
}

/** What encoder and decoder are made of. */
class Layers {
  readonly #groups: number
  readonly #ops: Lowering

  constructor({ groups }: VaeConfig, ops: Lowering) {
    this.#groups = groups
    this.#ops = ops
  }

  /** One layer of the decoder. */
  decode(scope: Scope, { kind, entering, channels }: DecoderLayer, x: Value): Value {
    switch (kind) {
      case 'entrance': {
        const code = conv2d(scope.at('post_quant_conv'), x, { channels: entering, kernel: 1 })
        const decoder = scope.at('decoder')
        return this.middle(decoder.at('mid_block'), conv2d(decoder.at('conv_in'), code, { channels, kernel: 3 }))
      }
      case 'residual':
        return this.residual(scope, x, channels)
      case 'double':
        return double(scope, x, 'zeros')
      case 'exit':
        return conv2d(scope.at('conv_out'), this.normalisedSilu(scope.at('conv_norm_out'), x), {
          channels,
          kernel: 3,
        })
    }
  }

  /** Two residual layers with attention between them: (B, C, h, w) → the same. */
  middle(scope: Scope, x: Value): Value {
    const width = knownAxis(x, 1)
    const first = this.residual(scope.at('resnets', 0), x, width)
    return this.residual(scope.at('resnets', 1), this.#attention(scope.at('attentions', 0), first), width)
  }

  /** (B, C, H, W) → (B, channels, H, W) */
  residual(scope: Scope, x: Value, channels: number): Value {
    const first = conv2d(scope.at('conv1'), this.normalisedSilu(scope.at('norm1'), x), { channels, kernel: 3 })
    const second = conv2d(scope.at('conv2'), this.normalisedSilu(scope.at('norm2'), first), { channels, kernel: 3 })
    const same = knownAxis(x, 1) === channels
    return Add(same ? x : conv2d(scope.at('conv_shortcut'), x, { channels, kernel: 1 }), second)
  }

  normalisedSilu(scope: Scope, x: Value): Value {
    return this.#ops.silu(this.#groupNorm(scope, x))
  }

  /** Group normalisation (Wu & He 2018, arXiv 1803.08494). */
  #groupNorm(scope: Scope, x: Value): Value {
    const channels = knownAxis(x, 1)
    const rows = Reshape(x, scope.shape([0, this.#groups, -1, x.shape[3] ?? 0], x)) // (B, G, C/G·H, W)
    const standard = this.#ops.groupStandardise(rows, epsilon)
    const perChannel = (name: string): Value => Unsqueeze(scope.parameter(name, [channels]), [1, 2]) // (C, 1, 1)
    return Add(Mul(reshape(scope, standard, x.shape, x), perChannel('weight')), perChannel('bias')) // (B, C, H, W)
  }

  /** One head over all positions, added to what came in. */
  #attention(scope: Scope, x: Value): Value {
    const channels = knownAxis(x, 1)
    const positions = Reshape(this.#groupNorm(scope.at('group_norm'), x), integers(0, 0, -1)) // (B, C, h·w)
    const rows = Transpose(positions, [0, 2, 1]) // (B, h·w, C)
    const project = (name: string): Value => linear(scope.at(name), rows, channels)
    const mixed = this.#ops.attention(
      { query: project('to_q'), key: project('to_k'), value: project('to_v') },
      { heads: 1, headWidth: channels, scale: 1 / Math.sqrt(channels) },
    )
    const attended = linear(scope.at('to_out', 0), mixed, channels) // (B, h·w, C)
    return Add(x, reshape(scope, Transpose(attended, [0, 2, 1]), x.shape, x))
  }
}

/** Pads on the right and below only. */
const halve = (scope: Scope, x: Value): Value =>
  conv2d(scope, x, { channels: knownAxis(x, 1), kernel: 3, stride: 2, pads: [0, 0, 1, 1] })

/**
 * Doubling by nearest neighbours and a 3 × 3 convolution after it, without the doubled picture: since an output pixel sees 2 × 2
 * pixels, some of them more than once, each of the four that a pixel becomes is a 2 × 2 convolution with those taps added up. It
 * takes 4/9 of the products (Shi et al. 2016, arXiv 1609.07009).
 * @param edges whether zeros come above and below, or x holds one row more on either side
 */
export function double(scope: Scope, x: Value, edges: 'zeros' | 'rows'): Value {
  const channels = knownAxis(x, 1)
  const weight = scope.parameter('weight', [channels, channels, 3, 3])
  const bias = scope.parameter('bias', [channels])
  const rows = [0, 1].map((row) => {
    const own = edges === 'zeros' ? x : row === 0 ? Slice(x, [0], [-1], [2]) : Slice(x, [1], [atEnd], [2])
    const [above, below] = edges === 'zeros' ? [1 - row, row] : [0, 0]
    const tall = addedTaps(weight, 2, row) // (C, C, 2, 3)
    const columns = [0, 1].map((column) => {
      const kernel = addedTaps(tall, 3, column) // (C, C, 2, 2)
      return Unsqueeze(Conv(own, kernel, bias, { pads: [above, 1 - column, below, column] }), [4])
    })
    return Concat(columns, { axis: 4 }) // (B, C, H, W, 2)
  })
  const doubled = Concat(rows, { axis: 3 }) // (B, C, H, 2·W, 2)
  return Reshape(doubled, scope.shape([0, channels, -1, doubled.shape[3] ?? 0], doubled)) // (B, C, 2·H, 2·W)
}

/** Three taps on doubled pixels as two on the pixels themselves: for the first of the two that a pixel becomes, or the second. */
function addedTaps(weight: Value, axis: number, second: number): Value {
  const tap = (at: number): Value => Slice(weight, [at], [at + 1], [axis])
  const taps = second === 0 ? [tap(0), Add(tap(1), tap(2))] : [Add(tap(0), tap(1)), tap(2)]
  return Concat(taps, { axis })
}

/** The end of an axis whose size is not known. */
const atEnd = Number.MAX_SAFE_INTEGER

function widest(channels: readonly number[], at: number): number {
  const width = channels.at(at)
  if (width === undefined) throw new TypeError('there must be at least one block')
  return width
}

/** Names that checkpoints of before diffusers 0.18 give the attention's parameters. */
const earlierNames = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' } as const

/** Expected key → the keys that older checkpoints have instead. */
export const vaeAliases: ReadonlyMap<string, readonly string[]> = new Map(
  ['encoder', 'decoder'].flatMap((half) =>
    Object.entries(earlierNames).flatMap(([now, before]) =>
      ['weight', 'bias'].map((part): [string, string[]] => {
        const attention = `${half}.mid_block.attentions.0`
        return [`${attention}.${now}.${part}`, [`${attention}.${before}.${part}`]]
      }),
    ),
  ),
)
