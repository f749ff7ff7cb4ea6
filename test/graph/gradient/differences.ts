/** Gradients by finite differences, with the same operators run by ONNX Runtime: the numbers that the rules are held against. */
import { float32, Session, type Tensor } from '../../../src/engine/session.ts'
import { evaluate, symbol, type Dimension } from '../../../src/graph/dimension.ts'
import { gradients, lossSeed } from '../../../src/graph/gradient/gradients.ts'
import { graph, parameter, type Graph, type Parameter, type Value } from '../../../src/graph/ir.ts'
import { Mul, ReduceSum } from '../../../src/graph/ops.ts'

export interface Point {
  readonly dims: readonly number[]
  readonly data: Float32Array
}

/** A symbol of its own for every size but 1, so that equal sizes are equal symbols. */
export const symbolic = (dims: readonly number[]): readonly Dimension[] =>
  dims.map((size) => (size === 1 ? 1 : symbol(`s${size}`)))

const sizes = Object.fromEntries(Array.from({ length: 100 }, (_, size) => [`s${size}`, size]))

/** Numbers between −1 and 1 that the seed decides. */
export function noise(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = (seed * 2654435761 + 97) >>> 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

export const numberOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1)

/** A session that runs the graph as it is written, with its parameters as inputs. */
export const openElementary = (graph: Graph): Promise<Session> =>
  Session.open(graph, 'inputs', { provider: 'cpu', threads: 1, fusion: 'elementary' })

/**
 * The largest error of the derivatives of Σ f(x)·w with respect to every element of every x, as a share of the largest derivative
 * of that x. The numeric ones are central differences of fourth order, summed in double over outputs computed in single
 * precision.
 * @param shapeOf how much of the shapes the graph is told
 */
export async function gradientError(
  f: (...xs: readonly Parameter[]) => Value,
  points: readonly Point[],
  { shapeOf = (dims: readonly number[]): readonly Dimension[] => dims, step = 0.02 } = {},
): Promise<number> {
  const xs = points.map(({ dims }, i) => parameter(`x${i}`, 'float32', shapeOf(dims)))
  const y = f(...xs)
  const dims = y.shape.map((size) => evaluate(size, sizes))
  const weights = noise(numberOf(dims), 7).map((weight) => weight + Math.sign(weight) * 0.2)
  const products = Mul(y, parameter('w', 'float32', y.shape))
  const loss = ReduceSum(
    products,
    dims.map((_, axis) => axis),
    { keepdims: 0 },
  )
  const derivatives = gradients([lossSeed(loss)], xs)
  const forward = await openElementary(graph('forward', [], { y }))
  const backward = await openElementary(
    graph('backward', [], Object.fromEntries(derivatives.map((value, i) => [`grad.x${i}`, value]))),
  )
  const feeds: Record<string, Tensor> = { w: float32(weights, ...dims) }
  for (const [i, { dims, data }] of points.entries()) feeds[`x${i}`] = float32(data, ...dims)
  const own = (session: Session): Record<string, Tensor> =>
    Object.fromEntries(session.graph.inputs.map(({ name }) => [name, feeds[name]!]))
  const lossAt = async (data: Float32Array, at: number, value: number): Promise<[number, number]> => {
    const before = data[at]!
    data[at] = value
    const used = data[at]
    const outputs = floats((await forward.run(own(forward))).y)
    data[at] = before
    return [used, outputs.reduce((sum, output, i) => sum + output * weights[i]!, 0)]
  }

  const analytic = await backward.run(own(backward))
  let worst = 0
  for (const [i, { data, dims }] of points.entries()) {
    const result = analytic[`grad.x${i}`]
    if (String(result?.dims) !== String(dims))
      throw new Error(`the gradient of x${i} is (${String(result?.dims)})`)
    const mine = floats(result)
    const numeric = new Float64Array(data.length)
    for (const [at, value] of data.entries()) {
      let rise = 0
      let run = 0
      for (const { steps, weight } of fourthOrder) {
        const [from, below] = await lossAt(data, at, value - steps * step)
        const [to, above] = await lossAt(data, at, value + steps * step)
        rise += weight * (above - below)
        run += weight * (to - from)
      }
      numeric[at] = rise / run
    }
    const largest = numeric.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    for (const [at, value] of numeric.entries()) {
      worst = Math.max(worst, Math.abs(mine[at]! - value) / (largest || 1))
    }
  }
  await forward.close()
  await backward.close()
  return worst
}

const fourthOrder = [
  { steps: 1, weight: 8 },
  { steps: 2, weight: -1 },
]

export function floats(tensor: Tensor | undefined): Float32Array {
  if (tensor?.dtype !== 'float32') throw new Error(`expected float32, got ${tensor?.dtype ?? 'nothing'}`)
  return tensor.data
}
