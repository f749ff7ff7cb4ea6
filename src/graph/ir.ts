/**
 * ONNX graphs as values. A value knows its type and where it comes from, and is connected by identity; names are for people
 * and for the outside (inputs, outputs, checkpoint keys). Everything is immutable: a graph is what its outputs reach.
 */
import type { DataType } from './data-type.ts'
import { sameDimension, type Dimension } from './dimension.ts'
import { infer, shapeText, type OperatorName } from './shapes.ts'

export type Shape = readonly Dimension[]

/** A number is an ONNX int and a list of numbers ONNX ints; a float says so. */
export type Attribute = number | string | readonly number[] | { readonly float: number }
export type Attributes = Readonly<Record<string, Attribute>>

export interface Type {
  readonly dtype: DataType
  readonly shape: Shape
  /** Elements of a list of integers where they are known: what Shape, Gather and Concat hand on to Reshape and Expand. */
  readonly elements?: readonly Dimension[]
}

/** Given anew at every run. */
export interface Input extends Type {
  readonly kind: 'input'
  readonly name: string
}

/** A tensor of the checkpoint; its name is its key there. */
export interface Parameter extends Type {
  readonly kind: 'parameter'
  readonly name: string
}

export interface Constant extends Type {
  readonly kind: 'constant'
  readonly data: ArrayLike<number>
}

/** What a node computes. */
export interface Result extends Type {
  readonly kind: 'result'
  readonly node: Node
  readonly index: number
}

export type Value = Input | Parameter | Constant | Result

export interface Node {
  readonly operator: OperatorName
  /** An optional input that is left out is undefined. */
  readonly inputs: readonly (Value | undefined)[]
  readonly attributes: Attributes
  readonly outputs: readonly Result[]
}

export interface Graph {
  readonly name: string
  readonly inputs: readonly Input[]
  readonly outputs: Readonly<Record<string, Value>>
  /** In an order in which they can run. */
  readonly nodes: readonly Node[]
  /** Those that the outputs depend on, in the order of first use. */
  readonly parameters: readonly Parameter[]
  readonly constants: readonly Constant[]
}

export const input = (name: string, dtype: DataType, shape: Shape): Input => ({
  kind: 'input',
  name,
  dtype,
  shape,
})

export const parameter = (name: string, dtype: DataType, shape: Shape): Parameter => ({
  kind: 'parameter',
  name,
  dtype,
  shape,
})

/** @throws {RangeError} when the data's length is not the shape's product */
export function constant(dtype: DataType, shape: readonly number[], data: ArrayLike<number>): Constant {
  if (shape.reduce((a, b) => a * b, 1) !== data.length) {
    throw new RangeError(`a constant of shape (${shape.join(', ')}) cannot hold ${data.length} elements`)
  }
  const elements = dtype === 'int64' && shape.length <= 1 ? { elements: Array.from(data) } : {}
  return { kind: 'constant', dtype, shape, data, ...elements }
}

export const scalar = (value: number, dtype: DataType = 'float32'): Constant => constant(dtype, [], [value])

export const integers = (...values: number[]): Constant => constant('int64', [values.length], values)

/**
 * A node of this operator with its outputs' types inferred.
 * @returns its results, those of optional outputs included
 * @throws {TypeError} when the operator cannot take these inputs
 */
export function apply(
  operator: OperatorName,
  inputs: readonly (Value | undefined)[],
  attributes: Attributes = {},
): readonly Result[] {
  const types = infer(operator, inputs, attributes)
  const outputs: Result[] = []
  const node: Node = { operator, inputs, attributes, outputs }
  for (const [index, type] of types.entries()) outputs.push({ kind: 'result', node, index, ...type })
  return outputs
}

/**
 * What these values depend on, themselves included: nodes in an order in which they can run, and inputs, parameters and
 * constants in the order of first use.
 */
export function dependencies(values: Iterable<Value>): {
  readonly nodes: readonly Node[]
  readonly leaves: ReadonlySet<Exclude<Value, Result>>
} {
  const nodes: Node[] = []
  const leaves = new Set<Exclude<Value, Result>>()
  const visited = new Set<Node>()
  const pending: { node: Node; next: number }[] = []

  const visit = (value: Value | undefined): void => {
    if (value === undefined) return
    if (value.kind !== 'result') leaves.add(value)
    else if (!visited.has(value.node)) {
      visited.add(value.node)
      pending.push({ node: value.node, next: 0 })
    }
  }
  for (const value of values) {
    visit(value)
    // Depth first with a stack of its own: a graph is deeper than the call stack may be.
    for (let top = pending.at(-1); top !== undefined; top = pending.at(-1)) {
      if (top.next < top.node.inputs.length) visit(top.node.inputs[top.next++])
      else {
        nodes.push(top.node)
        pending.pop()
      }
    }
  }
  return { nodes, leaves }
}

/**
 * The graph that computes these outputs.
 * @throws {TypeError} when an output depends on an input that is not listed, or two inputs or parameters share a name
 */
export function graph(
  name: string,
  inputs: readonly Input[],
  outputs: Readonly<Record<string, Value>>,
): Graph {
  const { nodes, leaves: used } = dependencies(Object.values(outputs))
  const leaves = new Set<Exclude<Value, Result>>([...inputs, ...used])
  const names = new Set<string>()
  for (const leaf of leaves) {
    if (leaf.kind === 'constant') continue
    if (leaf.kind === 'input' && !inputs.includes(leaf))
      throw new TypeError(`${name}: ${leaf.name} is not among its inputs`)
    if (names.has(leaf.name)) throw new TypeError(`${name}: two values are named ${leaf.name}`)
    names.add(leaf.name)
  }
  return {
    name,
    inputs,
    outputs,
    nodes,
    parameters: [...leaves].filter((leaf) => leaf.kind === 'parameter'),
    constants: [...leaves].filter((leaf) => leaf.kind === 'constant'),
  }
}

/** @throws {TypeError} when that axis does not exist or is symbolic */
export function knownAxis({ shape }: Type, axis: number): number {
  const size = shape.at(axis)
  if (typeof size !== 'number')
    throw new TypeError(`axis ${axis} of ${shapeText(shape)} must have a known size`)
  return size
}

export const lastAxis = (value: Type): number => knownAxis(value, -1)

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((dimension, i) => sameDimension(dimension, b[i] ?? Number.NaN))
