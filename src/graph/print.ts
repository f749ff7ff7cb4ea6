/** A graph as text, one line a value: the oracle of golden tests, and what a person reads first. */
import { dimensionText } from './dimension.ts'
import type { Attribute, Constant, Graph, Result, Value } from './ir.ts'
import { shapeText } from './shapes.ts'

const longestList = 12

export function print(graph: Graph): string {
  const numbers = new Map<Result, number>()
  for (const { outputs } of graph.nodes) for (const result of outputs) numbers.set(result, numbers.size)
  const text = (value: Value | undefined): string => {
    if (value === undefined) return '_'
    if (value.kind === 'constant') return constantText(value)
    return value.kind === 'result' ? `%${numbers.get(value)}` : value.name
  }
  const used = new Set<Value | undefined>([
    ...graph.nodes.flatMap(({ inputs }) => inputs),
    ...Object.values(graph.outputs),
  ])
  return [
    `graph ${graph.name}`,
    ...graph.inputs.map((value) => `  input ${value.name}: ${value.dtype} ${shapeText(value.shape)}`),
    ...graph.parameters.map((value) => `  parameter ${value.name}: ${value.dtype} ${shapeText(value.shape)}`),
    ...graph.nodes.map(({ operator, inputs, attributes, outputs }) => {
      const results = outputs.filter((result) => result.index === 0 || used.has(result))
      const left = results.map((result) => text(result)).join(', ')
      const types = results.map(({ dtype, shape }) => `${dtype} ${shapeText(shape)}`).join(', ')
      return `  ${left} = ${operator}(${inputs.map(text).join(', ')})${attributesText(Object.entries(attributes))}: ${types}`
    }),
    ...Object.entries(graph.outputs).map(([name, value]) => `  output ${name} = ${text(value)}`),
    '',
  ].join('\n')
}

const attributesText = (attributes: readonly (readonly [string, Attribute])[]): string =>
  attributes.length === 0
    ? ''
    : ` {${attributes.map(([name, value]) => `${name}: ${attributeText(value)}`).join(', ')}}`

function attributeText(attribute: Attribute): string {
  if (typeof attribute === 'string') return JSON.stringify(attribute)
  if (typeof attribute === 'number') return String(attribute)
  return 'float' in attribute ? `${attribute.float}f` : `[${attribute.join(', ')}]`
}

function constantText({ dtype, shape, data }: Constant): string {
  const suffix = dtype === 'float32' ? '' : `:${dtype}`
  if (shape.length === 0) return `${data[0]}${suffix}`
  if (shape.length === 1 && data.length <= longestList) return `[${Array.from(data).join(', ')}]${suffix}`
  return `${dtype}(${shape.map(dimensionText).join(', ')})#${checksum(data)}`
}

/** FNV-1a over the decimal digits: enough to notice a changed table. */
function checksum(data: ArrayLike<number>): string {
  let hash = 0x811c9dc5
  for (const character of Array.from(data).join(',')) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
  }
  return hash.toString(16).padStart(8, '0')
}
