/**
 * The decoder of vae.ts in passes over strips of the picture, for when memory does not hold whole layers. A pass is one
 * convolution with all that stands between it and the last one. Since it is given the statistics of its normalisation, a strip
 * needs no more of the picture than its own rows, one above and one below, and gives what the whole picture gives.
 *
 * Shapes: C channels, G groups, R rows of a strip with the one above and the one below, W columns.
 */
import { add, symbol } from '../graph/dimension.ts'
import { graph, input, integers, type Graph, type Input, type Value } from '../graph/ir.ts'
import { Add, Mul, Reshape, Sub } from '../graph/ops.ts'
import { Scope } from '../graph/scope.ts'
import { conv2d } from './layers.ts'
import { lowerings, type Lowering, type LoweringName } from './lowering.ts'
import { decoderLayers, double, type DecoderLayer, type VaeConfig } from './vae.ts'

export interface StripPass {
  /**
   * rows (1, entering, R, W) → `output`, the same without the row above and the row below, or twice that size. One that
   * normalises also takes `mean` and `inverse` (G, 1), the mean and 1 / standard deviation of each group in the whole picture,
   * and `inside` (R, 1), 1 for rows of the picture and 0 for those beyond its edges.
   */
  readonly graph: Graph
  readonly entering: number
  readonly channels: number
  readonly scale: 1 | 2
  readonly normalises: boolean
  /**
   * A residual layer has two passes: what the first one reads is kept for the second, which takes it as `skip` without the row
   * above and the row below.
   */
  readonly skip: 'none' | 'kept' | 'taken'
}

/** The passes of each part of the decoder; none for the first part, whose attention needs the whole picture. */
export function decoderPasses(config: VaeConfig, lowering: LoweringName): readonly (readonly StripPass[])[] {
  const strips = new Strips(config, lowerings[lowering])
  const [, ...parts] = decoderLayers(config)
  return [[], ...parts.map((layers) => layers.flatMap((layer) => strips.passes(layer)))]
}

/**
 * How many of the rows that come in make a strip that is worked on in about `workspaceBytes`, at least one. Measured: the library
 * and the copies to and from it take 5 floats for each of a row's, and 6 for each that comes out.
 */
export function stripRows({ entering, channels, scale, skip }: StripPass, width: number, workspaceBytes: number): number {
  const rowFloats = 5 * entering + 6 * channels * scale ** 2 + (skip === 'taken' ? 4 * entering : 0)
  return Math.max(1, Math.floor(workspaceBytes / (4 * width * rowFloats)) - 2)
}

class Strips {
  readonly #groups: number
  readonly #ops: Lowering

  constructor({ groups }: VaeConfig, ops: Lowering) {
    this.#groups = groups
    this.#ops = ops
  }

  passes({ kind, path, entering, channels }: DecoderLayer): readonly StripPass[] {
    // One of its own, since a scope remembers sizes, and those of one graph are not those of another.
    const scope = Scope.root().at(path)
    switch (kind) {
      case 'entrance':
        throw new TypeError('attention is not done in strips')
      case 'residual':
        return [this.#first(scope, entering, channels), this.#second(scope, entering, channels)]
      case 'double':
        return [doubled(scope, entering, channels)]
      case 'exit': {
        const strip = this.#normalised(scope.at('conv_norm_out'), entering)
        const output = convolve(scope.at('conv_out'), strip.x, channels)
        return [
          pass(scope.at('conv_out'), strip.inputs, output, { entering, channels, normalises: true, skip: 'none' }),
        ]
      }
    }
  }

  #first(scope: Scope, entering: number, channels: number): StripPass {
    const strip = this.#normalised(scope.at('norm1'), entering)
    const output = convolve(scope.at('conv1'), strip.x, channels)
    return pass(scope.at('conv1'), strip.inputs, output, { entering, channels, normalises: true, skip: 'kept' })
  }

  #second(scope: Scope, entering: number, channels: number): StripPass {
    const strip = this.#normalised(scope.at('norm2'), channels)
    const skip = input('skip', 'float32', [1, entering, add(symbol('R'), -2), symbol('W')])
    const same =
      entering === channels ? skip : conv2d(scope.at('conv_shortcut'), skip, { channels, kernel: 1 })
    const output = Add(same, convolve(scope.at('conv2'), strip.x, channels))
    return pass(scope.at('conv2'), [...strip.inputs, skip], output, {
      entering: channels,
      channels,
      normalises: true,
      skip: 'taken',
    })
  }

  /** Rows beyond the picture come out as zeros, which is what convolutions see there. */
  #normalised(scope: Scope, channels: number): { readonly inputs: readonly Input[]; readonly x: Value } {
    const rows = rowsInput(channels)
    const inside = input('inside', 'float32', [symbol('R'), 1])
    const mean = input('mean', 'float32', [this.#groups, 1])
    const inverse = input('inverse', 'float32', [this.#groups, 1])
    const grouped = (name: string): Value =>
      Reshape(scope.parameter(name, [channels]), integers(this.#groups, -1)) // (G, C/G)
    const factor = Mul(grouped('weight'), inverse)
    const offset = Sub(grouped('bias'), Mul(mean, factor))
    const perRow = (x: Value): Value => Mul(Reshape(x, integers(channels, 1, 1)), inside) // (C, R, 1)
    return {
      inputs: [rows, inside, mean, inverse],
      x: this.#ops.silu(Add(Mul(rows, perRow(factor)), perRow(offset))),
    }
  }
}

function doubled(scope: Scope, entering: number, channels: number): StripPass {
  const rows = rowsInput(entering)
  const output = double(scope, rows, 'rows')
  return pass(scope, [rows], output, { entering, channels, scale: 2, normalises: false, skip: 'none' })
}

const rowsInput = (channels: number): Input =>
  input('rows', 'float32', [1, channels, symbol('R'), symbol('W')])

/** Takes the rows above and below from the strip, and zeros on the left and right. */
const convolve = (scope: Scope, x: Value, channels: number): Value =>
  conv2d(scope, x, { channels, kernel: 3, pads: [0, 1, 0, 1] })

const pass = (
  { path }: Scope,
  inputs: readonly Input[],
  output: Value,
  properties: Omit<StripPass, 'graph' | 'scale'> & Partial<Pick<StripPass, 'scale'>>,
): StripPass => ({ graph: graph(path, inputs, { output }), scale: 1, ...properties })
