/**
 * Names for what has none: a node is named after the module whose parameter it reads, else after what feeds it, and a result
 * after its node; equal constants share a name. Only people read them (in dumps, profiles and error messages); values are connected by identity.
 */
import type { Graph, Node, Value } from './ir.ts'
import { shapeText } from './shapes.ts'

export interface Names {
  readonly values: ReadonlyMap<Value, string>
  readonly nodes: ReadonlyMap<Node, string>
}

export function nameValues(graph: Graph): Names {
  const values = new Map<Value, string>()
  const nodes = new Map<Node, string>()
  const modules = new Map<Node, string>()
  for (const leaf of [...graph.inputs, ...graph.parameters]) values.set(leaf, leaf.name)
  const equal = new Map<string, string>()
  for (const constant of graph.constants) {
    const content = `${constant.dtype} ${shapeText(constant.shape)} ${Array.from(constant.data).join(' ')}`
    const name = equal.get(content) ?? `constant_${equal.size}`
    equal.set(content, name)
    values.set(constant, name)
  }
  for (const [name, value] of Object.entries(graph.outputs))
    if (value.kind === 'result' && !values.has(value)) values.set(value, name)
  for (const [index, node] of graph.nodes.entries()) {
    const module = moduleOf(node, modules)
    modules.set(node, module)
    const name = `${module}/${node.operator.replace(/^.*\./, '')}_${index}`
    nodes.set(node, name)
    for (const result of node.outputs) {
      if (!values.has(result)) values.set(result, result.index === 0 ? name : `${name}:${result.index}`)
    }
  }
  return { values, nodes }
}

function moduleOf({ inputs }: Node, modules: ReadonlyMap<Node, string>): string {
  const parameter = inputs.find((value) => value?.kind === 'parameter')
  if (parameter?.kind === 'parameter') return parameter.name.split('.').slice(0, -1).join('.')
  for (const value of inputs) if (value?.kind === 'result') return modules.get(value.node) ?? ''
  return ''
}
