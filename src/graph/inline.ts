/** A graph within a graph: its outputs as values of whoever gives its inputs. */
import { apply, type Graph, type Node, type Value } from './ir.ts'

/**
 * The graph's outputs with values in the place of its inputs; parameters stay the same values, so that graphs of one model share
 * them.
 * @throws {TypeError} when an input is not given, or its nodes cannot take what is given
 */
export function inline(graph: Graph, given: Readonly<Record<string, Value>>): Record<string, Value> {
  const replaced = new Map<Value, Value>()
  for (const input of graph.inputs) {
    const value = given[input.name]
    if (value === undefined) throw new TypeError(`${graph.name}: ${input.name} is not given`)
    replaced.set(input, value)
  }
  const now = (value: Value): Value => replaced.get(value) ?? value
  for (const node of graph.nodes) {
    if (!node.inputs.some((value) => value && now(value) !== value)) continue
    for (const [i, result] of again(node, now).entries()) replaced.set(node.outputs[i]!, result)
  }
  return Object.fromEntries(Object.entries(graph.outputs).map(([name, value]) => [name, now(value)]))
}

const again = ({ operator, inputs, attributes }: Node, now: (value: Value) => Value) =>
  apply(
    operator,
    inputs.map((value) => value && now(value)),
    attributes,
  )
