/**
 * Reverse-mode differentiation of a graph into a graph (Griewank & Walther 2008, chapter 3): cotangents travel from the outputs
 * back, each operator's rule turns those of its results into those of its inputs, and where a value was used more than once
 * they add up. Only what lies between the outputs and the values asked about is differentiated.
 */
import type { DataType } from '../data-type.ts'
import { dependencies, sameShape, scalar, type Node, type Value } from '../ir.ts'
import { nameValues } from '../names.ts'
import { Add } from '../ops.ts'
import { shapeText } from '../shapes.ts'
import { filledLike } from './broadcast.ts'
import { Call } from './call.ts'
import { rules } from './rules.ts'

/** A value of which something is differentiated, and the derivative of that something with respect to it, of its shape. */
export interface Seed {
  readonly value: Value
  readonly cotangent: Value
}

/** The seed of a loss that is a single number. @throws {TypeError} when it is not */
export function lossSeed(loss: Value): Seed {
  if (loss.shape.length > 0) throw new TypeError(`a loss is a scalar, not ${shapeText(loss.shape)}`)
  return { value: loss, cotangent: scalar(1, loss.dtype) }
}

export interface GradientOptions {
  /** Values to be taken for constants: nothing is differentiated through them. */
  readonly detached?: ReadonlySet<Value>
}

const differentiable: ReadonlySet<DataType> = new Set<DataType>(['float32', 'float16', 'bfloat16'])

/**
 * @returns one value for each of `wrt`, of its shape and type; zeros when nothing depends on it
 * @throws {TypeError} naming operator and node, when one on the way has no rule or uses a form that its rule does not cover
 */
export function gradients(
  seeds: readonly Seed[],
  wrt: readonly Value[],
  { detached = new Set() }: GradientOptions = {},
): readonly Value[] {
  for (const { value, cotangent } of seeds) {
    if (sameShape(value.shape, cotangent.shape) && value.dtype === cotangent.dtype) continue
    throw new TypeError(`the cotangent of ${shapeText(value.shape)} is ${shapeText(cotangent.shape)}`)
  }
  const { nodes } = dependencies(seeds.map(({ value }) => value))
  const active = new Set<Value>(wrt)
  for (const { inputs, outputs } of nodes) {
    if (!inputs.some((value) => value && active.has(value))) continue
    for (const output of outputs)
      if (differentiable.has(output.dtype) && !detached.has(output)) active.add(output)
  }

  const cotangents = new Map<Value, Value>()
  const give = (value: Value, cotangent: Value): void => {
    if (!active.has(value)) return
    const known = cotangents.get(value)
    cotangents.set(value, known === undefined ? cotangent : Add(known, cotangent))
  }
  for (const { value, cotangent } of seeds) give(value, cotangent)
  for (const node of nodes.toReversed()) {
    const ofOutputs = node.outputs.map((output) => cotangents.get(output))
    const needed = node.inputs.some((value) => value && active.has(value))
    if (!needed || ofOutputs.every((cotangent) => cotangent === undefined)) continue
    const call = new Call(node, ofOutputs, () => placeOf(node, nodes))
    const rule = rules[node.operator] ?? call.fail('there is no rule')
    const contributions = rule(call)
    for (const [i, value] of node.inputs.entries()) {
      if (!value || !active.has(value)) continue
      const contribution = contributions[i] ?? call.fail(`there is none with respect to input ${i}`)
      give(value, contribution())
    }
  }
  return wrt.map((value) => cotangents.get(value) ?? filledLike(0, value))
}

/** The name that the node has in a graph of these nodes: after the module whose parameter it reads, or what feeds it. */
function placeOf(node: Node, nodes: readonly Node[]): string {
  const { leaves } = dependencies(node.outputs)
  const inputs = [...leaves].filter((leaf) => leaf.kind === 'input')
  const parameters = [...leaves].filter((leaf) => leaf.kind === 'parameter')
  return nameValues({ name: '', inputs, outputs: {}, nodes, parameters, constants: [] }).nodes.get(node) ?? ''
}
