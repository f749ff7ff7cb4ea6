/**
 * The matrix products of a graph: how many operations they are, and a graph of nothing but them, which is the least time that
 * the library needs for it.
 *
 * Shapes: B batch, H heads, S queries, T keys, d width of a head.
 */
import { float32, type Tensor } from '../../src/engine/session.ts'
import { evaluate, symbolName } from '../../src/graph/dimension.ts'
import { graph, input, integers, type Graph, type Input, type Node, type Value } from '../../src/graph/ir.ts'
import type { OperatorName } from '../../src/graph/shapes.ts'
import { Concat, Gemm, MatMul, Reshape, Slice } from '../../src/graph/ops.ts'

type Sizes = Readonly<Record<string, number>>
type Feeds = Readonly<Record<string, Tensor>>

/** A multiplication and an addition are two operations. Elementwise operators, norms and softmax count as nothing. */
export function operationsOf({ nodes }: Graph, sizes: Sizes): number {
  return nodes.reduce((sum, node) => sum + (operations[node.operator]?.(new Sized(node, sizes)) ?? 0), 0)
}

/** The sizes that a graph's symbols have in these feeds. */
export function sizesOf({ inputs }: Graph, feeds: Feeds): Sizes {
  const entries = inputs.flatMap(({ name, shape }) =>
    shape.map((dimension, axis) => [symbolName(dimension), feeds[name]?.dims[axis]] as const),
  )
  return Object.fromEntries(entries.filter(([name, size]) => name !== undefined && size !== undefined))
}

/** A node as it is with these sizes. */
class Sized {
  readonly #node: Node
  readonly #sizes: Sizes

  constructor(node: Node, sizes: Sizes) {
    this.#node = node
    this.#sizes = sizes
  }

  attribute(name: string): number {
    return Number(this.#node.attributes[name] ?? 0)
  }

  input(index: number): readonly number[] {
    return dimsOf(this.#node.inputs[index], this.#sizes)
  }

  get result(): readonly number[] {
    return dimsOf(this.#node.outputs[0], this.#sizes)
  }
}

const dimsOf = (value: Value | undefined, sizes: Sizes): readonly number[] =>
  value?.shape.map((dimension) => evaluate(dimension, sizes)) ?? []

const count = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1)

const product = (node: Sized): number =>
  2 * count(node.result) * node.input(0).at(node.attribute('transA') === 1 ? -2 : -1)!

const operations: Partial<Record<OperatorName, (node: Sized) => number>> = {
  Gemm: product,
  MatMul: product,
  'com.microsoft.FusedMatMul': product,
  'com.microsoft.MatMulNBits': product,
  Conv: (node) => 2 * count(node.result) * count(node.input(1).slice(1)),
  // query (B, S, H·d) · keyᵀ (B, T, H·d), and as much for the weights and the values.
  'com.microsoft.MultiHeadAttention': (node) => 4 * count(node.input(0)) * node.input(1)[1]!,
}

/**
 * The floor of a call: every linear layer's product, with its own weights and without its bias, and both products of every
 * attention, query · keyᵀ and weights · value, as MatMuls over (B·H, S, d).
 *
 * An attention's queries are what the one before gave, so that no two products are the same one. Of every product one number is
 * given out, which keeps the library from leaving it out.
 * @param blockElements scores of more are computed by blocks of queries. By default 128 MiB: all of a call at 512 px with
 *   guidance, blocks of 256 queries at 1024 px, where all would be 2 GiB
 */
export function floorOf(
  source: Graph,
  sizes: Sizes,
  blockElements = 2 ** 25,
): { readonly graph: Graph; readonly feeds: Feeds } {
  const inputs = new Map<string, Input>()
  const feeds: Record<string, Tensor> = {}
  const ends: Value[] = []
  const lastQueries = new Map<string, Value>()
  const given = (name: string, deviation: number, dims: readonly number[]): Value => {
    const key = `${name} ${dims.join('×')}`
    const known = inputs.get(key) ?? input(key, 'float32', dims)
    inputs.set(key, known)
    feeds[key] ??= float32(uniform(dims, deviation), ...dims)
    return known
  }

  for (const { operator, inputs, attributes } of source.nodes) {
    const [a, b] = inputs
    if (operator === 'Gemm') {
      ends.push(
        firstOf(
          Gemm(given('rows', 1, dimsOf(a, sizes)), b!, undefined, {
            transB: attributes.transB === 1 ? 1 : 0,
          }),
        ),
      )
    } else if (operator === 'com.microsoft.MultiHeadAttention') {
      const heads = attributes.num_heads as number
      const [batch = 0, queries = 0, width = 0] = dimsOf(a, sizes)
      const [, keys = 0] = dimsOf(b, sizes)
      const [B, d] = [batch * heads, width / heads]
      // Deviations that keep what goes round at its size.
      const [key, value] = [
        given('keysᵀ', d ** -0.5, [B, d, keys]),
        given('values', keys ** -0.5, [B, keys, d]),
      ]
      const most = Math.max(1, Math.floor(blockElements / (B * keys)))
      for (let start = 0; start < queries; start += most) {
        const dims = [B, Math.min(most, queries - start), d]
        const at = `queries ${start} ${dims.join('×')}`
        const query = lastQueries.get(at) ?? given(`queries ${start}`, 1, dims)
        lastQueries.set(at, MatMul(MatMul(query, key), value))
      }
    }
  }
  for (const last of lastQueries.values()) ends.push(firstOf(last))
  const output = { ends: Concat(ends, { axis: 0 }) }
  return { graph: graph(`${source.name}_floor`, [...inputs.values()], output), feeds }
}

function firstOf(x: Value): Value {
  const each = (value: number): number[] => x.shape.map(() => value)
  return Reshape(Slice(x, each(0), each(1), [...x.shape.keys()]), integers(1))
}

/** Numbers from a linear congruential generator (Numerical Recipes' constants): the same everywhere. */
export function uniform(dims: readonly number[], deviation: number): Float32Array {
  const spread = deviation * Math.sqrt(12)
  let state = dims.length
  return Float32Array.from({ length: count(dims) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32 - 0.5) * spread
  })
}
