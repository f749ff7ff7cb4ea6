/**
 * Holds a provider's fused operators against the same computed from elementary ones, on small seeded inputs, since a kernel can
 * be wrong: ONNX Runtime 1.30's MultiHeadAttention is, on WebGPU over SwiftShader, from 64 tokens on.
 *
 * Shapes: B batch, S queries, T keys, D width.
 */
import { graph, input, constant, integers, type Graph, type Value } from '../graph/ir.ts'
import { Reshape } from '../graph/ops.ts'
import { lowerings, type LoweringName } from '../models/lowering.ts'
import { atPrecision, type Precision } from '../models/precision.ts'
import { float32, Session, type SessionOptions, type Tensor } from './session.ts'

export interface Difference {
  readonly primitive: string
  /** Largest absolute difference between the two lowerings. */
  readonly absolute: number
  /** The same over the largest magnitude of the plain lowering's output. */
  readonly relative: number
}

/** `serve` when every fused operator runs and agrees with its plain form; `reason` says why not, for the operator to read. */
export type ProviderCheck =
  | { readonly lowering: 'serve'; readonly differences: readonly Difference[] }
  | { readonly lowering: 'plain'; readonly reason: string }

type Outputs = Readonly<Record<string, Tensor>>

/** Reduced-precision products on GPUs differ by some 1e-3; the wrong kernels that we know of by 3e-2 and more. */
const relativeBound = 5e-3

const [batch, queries, keys, width] = [2, 96, 80, 576]

/** The primitives at the head widths of our models: 72 for PixArt, 64 for T5, all of the width for the VAE. */
function primitives(lowering: LoweringName): Graph {
  const ops = lowerings[lowering]
  const x = input('x', 'float32', [batch, queries, width])
  const y = input('y', 'float32', [batch, queries, width])
  const context = input('context', 'float32', [batch, keys, width])
  const bias = input('bias', 'float32', [batch, 1, queries, keys])
  const perHead = input('per_head', 'float32', [1, width / 64, queries, queries])
  const weight = constant('float32', [width], seeded(width, 5))
  const attention = (heads: number, key: Value, added?: Value): Value => {
    const headWidth = width / heads
    const scale = 1 / Math.sqrt(headWidth)
    return ops.attention(
      { query: x, key, value: key, ...(added ? { bias: added } : {}) },
      { heads, headWidth, scale },
    )
  }
  return graph(`primitives_${lowering}`, [x, y, context, bias, perHead], {
    'self-attention': attention(width / 72, y),
    'cross-attention': attention(width / 72, context, bias),
    'attention with a bias per head': attention(width / 64, y, perHead),
    'attention of one head': attention(1, y),
    'GELU (tanh)': ops.geluTanh(x),
    SiLU: ops.silu(x),
    'layer normalisation': ops.layerNorm(x, 1e-6),
    'RMS normalisation': ops.rmsNorm(x, weight, 1e-6),
    'group standardisation': ops.groupStandardise(Reshape(x, integers(batch, 32, -1, 8)), 1e-6),
  })
}

/**
 * @returns which lowering the provider computes rightly
 * @throws {SessionError} when the provider is missing or cannot run even the plain lowering
 */
export async function checkProvider({
  precision = 'float32',
  ...options
}: Pick<SessionOptions, 'provider' | 'deviceIndex' | 'threads'> & {
  readonly precision?: Precision
}): Promise<ProviderCheck> {
  const feeds = {
    x: float32(seeded(batch * queries * width, 1), batch, queries, width),
    y: float32(seeded(batch * queries * width, 4), batch, queries, width),
    context: float32(seeded(batch * keys * width, 2), batch, keys, width),
    bias: float32(paddingBias(), batch, 1, queries, keys),
    per_head: float32(seeded((width / 64) * queries ** 2, 3), 1, width / 64, queries, queries),
  }
  return compareLowerings(options.provider, (lowering) =>
    runOnce(
      atPrecision(primitives(lowering), precision),
      { ...options, fusion: lowering === 'plain' ? 'elementary' : 'all' },
      feeds,
    ),
  )
}

/**
 * @param compute every primitive, by name, in one of the lowerings
 * @throws what computing the plain lowering throws
 */
export async function compareLowerings(
  provider: string,
  compute: (lowering: LoweringName) => Promise<Outputs>,
): Promise<ProviderCheck> {
  const plain = await compute('plain')
  let serve: Outputs
  try {
    serve = await compute('serve')
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return { lowering: 'plain', reason: `the fused operators of ${provider} do not run (${message})` }
  }
  const differences = Object.entries(plain).map(([primitive, expected]) => ({
    primitive,
    ...difference(floats(serve[primitive]), floats(expected)),
  }))
  // Written so that a NaN counts as a difference.
  const wrong = differences.filter(({ relative }) => !(relative <= relativeBound))
  if (wrong.length === 0) return { lowering: 'serve', differences }
  const list = wrong
    .map(({ primitive, relative }) => `${primitive} by ${relative.toExponential(1)}`)
    .join(', ')
  return {
    lowering: 'plain',
    reason: `the fused operators of ${provider} disagree with the plain ones (relative to the largest value: ${list})`,
  }
}

async function runOnce(
  graph: Graph,
  options: SessionOptions,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Outputs> {
  const session = await Session.open(graph, new Map(), options)
  try {
    return await session.run(feeds)
  } finally {
    await session.close()
  }
}

/** The second row's last keys are padding. */
function paddingBias(): Float32Array {
  return Float32Array.from({ length: batch * queries * keys }, (_, i) => {
    const row = Math.floor(i / (queries * keys))
    return row === 1 && i % keys >= keys / 3 ? -10000 : 0
  })
}

function floats(tensor: Tensor | undefined): Float32Array {
  if (tensor?.dtype === 'float32') return tensor.data
  throw new TypeError(`expected float32, got ${tensor?.dtype ?? 'nothing'}`)
}

function difference(actual: Float32Array, expected: Float32Array): { absolute: number; relative: number } {
  let [absolute, largest] = [0, 0]
  for (const [i, value] of expected.entries()) {
    absolute = Math.max(absolute, Math.abs((actual[i] ?? Number.NaN) - value)) // NaN stays
    largest = Math.max(largest, Math.abs(value))
  }
  return { absolute, relative: absolute / largest }
}

/** Numbers in −2 … 2 from a linear congruential generator (Numerical Recipes' constants): the same everywhere. */
function seeded(length: number, seed: number): Float32Array {
  let state = seed
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32) * 4 - 2
  })
}
