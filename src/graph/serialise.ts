/** Graph → the bytes of an ONNX model, whose parameters lie elsewhere: in weight files, or with the caller as inputs. */
import { create, toBinary } from '@bufbuild/protobuf'
import { elementBytes, elementTypes, type DataType } from './data-type.ts'
import { dimensionText } from './dimension.ts'
import type { Attribute, Constant, Graph, Node, Parameter, Result, Shape, Value } from './ir.ts'
import { nameValues } from './names.ts'
import {
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
  type AttributeProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './onnx_pb.ts'

const irVersion = 10n
const opsetVersion = 21n

const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const
const external = 1

/** Where a parameter's bytes lie, relative to the folder that the session is given. */
export interface ExternalTensor {
  readonly location: string
  readonly offset: number
  readonly length: number
}

/**
 * A place for every parameter: a file, or `input`. Parameters that are inputs follow the graph's own, in their order (training);
 * `inputs` says that of all.
 */
export type ParameterSource = ReadonlyMap<string, ExternalTensor | 'input'> | 'inputs'

/** @throws {RangeError} when a parameter has no place, or one of another size */
export function serialise(graph: Graph, parameters: ParameterSource): Uint8Array<ArrayBuffer> {
  const names = nameValues(graph)
  const nameOf = (value: Value): string => names.values.get(value) ?? ''
  const used = new Set<Value>(
    [...graph.nodes.flatMap(({ inputs }) => inputs), ...Object.values(graph.outputs)].filter(
      (v) => v !== undefined,
    ),
  )

  const nodes = graph.nodes.map((node) => nodeProto(node, names.nodes.get(node) ?? '', nameOf, used))
  for (const [name, value] of Object.entries(graph.outputs)) {
    if (nameOf(value) !== name) {
      nodes.push(
        create(NodeProtoSchema, {
          opType: 'Identity',
          input: [nameOf(value)],
          output: [name],
          name: `${name}/Identity`,
        }),
      )
    }
  }
  const outputs = Object.entries(graph.outputs).map(([name, { dtype, shape }]) =>
    valueInfo(name, dtype, shape),
  )
  const inputs = graph.inputs.map(({ name, dtype, shape }) => valueInfo(name, dtype, shape))
  const constants = new Map(graph.constants.map((constant) => [nameOf(constant), constant]))
  const initializers = [...constants].map(([name, constant]) => constantTensor(constant, name))
  for (const parameter of graph.parameters) {
    const place = parameters === 'inputs' ? 'input' : parameters.get(parameter.name)
    if (place === 'input') inputs.push(valueInfo(parameter.name, parameter.dtype, parameter.shape))
    else initializers.push(externalTensor(parameter, place))
  }

  const model = create(ModelProtoSchema, {
    irVersion,
    producerName: 'atelier',
    opsetImport: ['', 'com.microsoft'].map((domain) =>
      create(OperatorSetIdProtoSchema, { domain, version: domain === '' ? opsetVersion : 1n }),
    ),
    graph: create(GraphProtoSchema, {
      name: graph.name,
      node: nodes,
      input: inputs,
      output: outputs,
      initializer: initializers,
    }),
  })
  return toBinary(ModelProtoSchema, model)
}

function nodeProto(
  node: Node,
  name: string,
  nameOf: (value: Value) => string,
  used: ReadonlySet<Value>,
): NodeProto {
  const at = node.operator.lastIndexOf('.')
  const read = (result: Result): boolean =>
    result.index === 0 || used.has(result) || node.operator === 'Split'
  return create(NodeProtoSchema, {
    name,
    opType: node.operator.slice(at + 1),
    domain: node.operator.slice(0, Math.max(at, 0)),
    input: node.inputs.map((value) => (value ? nameOf(value) : '')),
    output: node.outputs
      .slice(0, node.outputs.findLastIndex(read) + 1)
      .map((result) => (read(result) ? nameOf(result) : '')),
    attribute: Object.entries(node.attributes).map(([name, attribute]) => attributeProto(name, attribute)),
  })
}

function attributeProto(name: string, attribute: Attribute): AttributeProto {
  if (typeof attribute === 'number') {
    return create(AttributeProtoSchema, { name, type: attributeTypes.int, i: BigInt(attribute) })
  }
  if (typeof attribute === 'string') {
    return create(AttributeProtoSchema, {
      name,
      type: attributeTypes.string,
      s: new TextEncoder().encode(attribute),
    })
  }
  if ('float' in attribute)
    return create(AttributeProtoSchema, { name, type: attributeTypes.float, f: attribute.float })
  return create(AttributeProtoSchema, { name, type: attributeTypes.ints, ints: attribute.map(BigInt) })
}

function valueInfo(name: string, dtype: DataType, shape: Shape): ValueInfoProto {
  const dim = shape.map((dimension) =>
    create(TensorShapeProto_DimensionSchema, {
      value:
        typeof dimension === 'number'
          ? { case: 'dimValue', value: BigInt(dimension) }
          : { case: 'dimParam', value: dimensionText(dimension) },
    }),
  )
  const tensor = create(TypeProto_TensorSchema, {
    elemType: elementTypes[dtype],
    shape: create(TensorShapeProtoSchema, { dim }),
  })
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensor } }),
  })
}

const knownSizes = (name: string, shape: Shape): number[] =>
  shape.map((size) => {
    if (typeof size === 'number') return size
    throw new RangeError(`${name}: a stored tensor cannot have the symbolic size ${size.text}`)
  })

function externalTensor({ name, dtype, shape }: Parameter, place: ExternalTensor | undefined): TensorProto {
  const sizes = knownSizes(name, shape)
  const length = sizes.reduce((a, b) => a * b, elementBytes[dtype])
  if (place === undefined) throw new RangeError(`${name}: no place is given`)
  if (place.length !== length)
    throw new RangeError(`${name}: ${length} bytes are needed, ${place.length} given`)
  const entries = { location: place.location, offset: String(place.offset), length: String(place.length) }
  return create(TensorProtoSchema, {
    name,
    dims: sizes.map(BigInt),
    dataType: elementTypes[dtype],
    dataLocation: external,
    externalData: Object.entries(entries).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    ),
  })
}

function constantTensor({ dtype, shape, data }: Constant, name: string): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dims: knownSizes(name, shape).map(BigInt),
    dataType: elementTypes[dtype],
    rawData: encode(dtype, data),
  })
}

/** Elements as ONNX stores them: fixed width, little-endian. */
function encode(dtype: DataType, data: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const width = elementBytes[dtype]
  const bytes = new Uint8Array(data.length * width)
  const view = new DataView(bytes.buffer)
  for (const [i, value] of Array.from(data).entries()) {
    const at = i * width
    switch (dtype) {
      case 'float32':
        view.setFloat32(at, value, true)
        break
      case 'float16':
        view.setFloat16(at, value, true)
        break
      case 'bfloat16':
        throw new TypeError('constants are not made in bfloat16')
      case 'int64':
        view.setBigInt64(at, BigInt(value), true)
        break
      case 'int32':
        view.setInt32(at, value, true)
        break
      case 'int8':
        view.setInt8(at, value)
        break
      case 'uint8':
      case 'bool':
        view.setUint8(at, value)
        break
    }
  }
  return bytes
}
