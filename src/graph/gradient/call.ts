/** One application of an operator whose cotangents are known, as a gradient rule asks about it. */
import type { Node, Result, Value } from '../ir.ts'

/** The cotangent of one input, computed when it is asked for; undefined where the operator has none (indices, shapes, bounds). */
export type Contribution = (() => Value) | undefined

/** @returns one contribution an input, in the operator's order */
export type Rule = (call: Call) => readonly Contribution[]

export class Call {
  readonly node: Node
  /** Of each output; undefined when the result is not needed. */
  readonly cotangents: readonly (Value | undefined)[]
  readonly #place: () => string

  constructor(node: Node, cotangents: readonly (Value | undefined)[], place: () => string) {
    this.node = node
    this.cotangents = cotangents
    this.#place = place
  }

  fail(problem: string): never {
    throw new TypeError(`gradient of ${this.node.operator} at ${this.#place()}: ${problem}`)
  }

  input(index: number): Value {
    return this.node.inputs[index] ?? this.fail(`input ${index} is missing`)
  }

  output(index = 0): Result {
    return this.node.outputs[index] ?? this.fail(`output ${index} is missing`)
  }

  /** Of the first output, the only one that most operators' rules know. */
  get cotangent(): Value {
    if (this.cotangents.some((value, index) => value && index > 0))
      this.fail('only its first output is differentiated')
    return this.cotangents[0] ?? this.fail('its first output is not used')
  }

  int(name: string, fallback?: number): number {
    const value = this.node.attributes[name] ?? fallback
    return typeof value === 'number' ? value : this.fail(`attribute ${name} is no int`)
  }

  ints(name: string, fallback?: readonly number[]): readonly number[] {
    const value = this.node.attributes[name] ?? fallback
    return Array.isArray(value)
      ? (value as readonly number[])
      : this.fail(`attribute ${name} is no list of ints`)
  }

  float(name: string, fallback: number): number {
    const value = this.node.attributes[name]
    return typeof value === 'object' && 'float' in value ? value.float : fallback
  }

  /** The numbers in an input that is a list of integers known when the graph is built. */
  numbers(index: number): readonly number[] {
    return (this.input(index).elements ?? this.fail(`input ${index} must be known`)).map((element) =>
      typeof element === 'number'
        ? element
        : this.fail(`input ${index} must hold numbers, not ${element.text}`),
    )
  }

  /** The axes that an optional input names, counted from 0; all of them when it is left out. */
  axes(index: number, rank: number): readonly number[] {
    if (this.node.inputs[index] === undefined) return Array.from({ length: rank }, (_, i) => i)
    return this.numbers(index).map((axis) => (axis + rank) % rank)
  }
}
