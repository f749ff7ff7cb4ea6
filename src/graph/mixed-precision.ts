/**
 * A float32 graph as one that computes in float16 and float32 (Micikevicius et al. 2018, arXiv 1710.03740, in the way of
 * torch.autocast): matrix products and convolutions take and give float16, norms, softmax and whatever else sums or raises many
 * numbers float32, and all other operators the wider of what they are given.
 */
import type { DataType } from './data-type.ts'
import {
  apply,
  constant,
  graph,
  parameter,
  scalar,
  type Graph,
  type Node,
  type Parameter,
  type Value,
} from './ir.ts'
import { Cast, Max } from './ops.ts'
import type { OperatorName } from './shapes.ts'

type Float = 'float16' | 'float32'

const products: ReadonlySet<OperatorName> = new Set([
  'Conv',
  'ConvTranspose',
  'Gemm',
  'MatMul',
  'com.microsoft.FusedMatMul',
  'com.microsoft.MatMulNBits',
  'com.microsoft.MultiHeadAttention',
])

/** Their result is float32 as well. */
const inFullPrecision: ReadonlySet<OperatorName> = new Set([
  'Cos',
  'Exp',
  'InstanceNormalization',
  'LayerNormalization',
  'Log',
  'Pow',
  'Reciprocal',
  'ReduceMean',
  'ReduceSum',
  'SimplifiedLayerNormalization',
  'Sin',
  'Softmax',
  'Sqrt',
  'com.microsoft.SkipLayerNormalization',
  'com.microsoft.SkipSimplifiedLayerNormalization',
])

/** Where an operator's floats are not of the type that it computes in. */
const ownTypes: Partial<Record<OperatorName, number>> = { Cast: 0, Resize: 2 }

const leastFloat16 = -65504

export interface MixedPrecisionOptions {
  /** Whether the parameter of that key stays float32 and is rounded anew at every run, as one that is trained must be. */
  readonly isMaster?: (key: string) => boolean
}

/**
 * Inputs and outputs keep their types. Parameters that only products or Gather read become float16.
 * @param keepsFloat32 whether the products with the parameter of that key stay in float32
 */
export function inMixedPrecision(
  source: Graph,
  keepsFloat32: (key: string) => boolean,
  { isMaster = () => false }: MixedPrecisionOptions = {},
): Graph {
  return new Conversion(source, keepsFloat32, isMaster).graph()
}

class Conversion {
  readonly #source: Graph
  readonly #keepsFloat32: (key: string) => boolean
  readonly #isMaster: (key: string) => boolean
  readonly #counterparts = new Map<Value, Value>()
  readonly #bounds = new Map<Value, Value>()
  readonly #casts: Readonly<Record<Float, Map<Value, Value>>> = { float16: new Map(), float32: new Map() }

  constructor(source: Graph, keepsFloat32: (key: string) => boolean, isMaster: (key: string) => boolean) {
    this.#source = source
    this.#isMaster = isMaster
    this.#keepsFloat32 = keepsFloat32
  }

  graph(): Graph {
    const { name, inputs, outputs, nodes } = this.#source
    for (const each of this.#narrowParameters()) {
      this.#counterparts.set(each, parameter(each.name, 'float16', each.shape))
    }
    for (const node of nodes) this.#convert(node)
    const converted = Object.entries(outputs).map(([key, value]) => [
      key,
      isFloat(value.dtype) ? this.#in(value.dtype, this.#of(value)) : this.#of(value),
    ])
    return graph(name, inputs, Object.fromEntries(converted))
  }

  #narrowParameters(): readonly Parameter[] {
    const wide = new Set(
      this.#source.nodes
        .filter((node) => this.#precisionOf(node) !== 'float16' && node.operator !== 'Gather')
        .flatMap(({ inputs }) => inputs),
    )
    return this.#source.parameters.filter(
      (each) => each.dtype === 'float32' && !wide.has(each) && !this.#isMaster(each.name),
    )
  }

  /** @returns undefined where it follows from the inputs */
  #precisionOf({ operator, inputs }: Node): Float | undefined {
    const keeps = inputs.some((value) => value?.kind === 'parameter' && this.#keepsFloat32(value.name))
    if (products.has(operator)) return keeps ? 'float32' : 'float16'
    return inFullPrecision.has(operator) ? 'float32' : undefined
  }

  #convert(node: Node): void {
    const { operator, attributes, outputs } = node
    const given = node.inputs.map((value) => value && this.#of(value))
    const precision = this.#precisionOf(node) ?? widest(given.filter((value) => value !== undefined))
    const inputs = given.map((value, index) => {
      if (value === undefined || !isFloat(value.dtype) || ownTypes[operator] === index) return value
      const isBias = operator === 'com.microsoft.MultiHeadAttention' && index === 5
      return this.#in(precision, isBias ? this.#bounded(value) : value)
    })
    const results = apply(operator, inputs, attributes)
    for (const [index, output] of outputs.entries()) {
      const result = results[index]!
      // A table is stored in float16; what is read from it goes on as it would have.
      const isRead = operator === 'Gather' && result.dtype === 'float16' && output.dtype === 'float32'
      this.#counterparts.set(output, isRead ? this.#in('float32', result) : result)
    }
  }

  #of(value: Value): Value {
    return this.#counterparts.get(value) ?? value
  }

  #in(dtype: Float, value: Value): Value {
    if (value.dtype === dtype) return value
    const casts = this.#casts[dtype]
    const cast = casts.get(value) ?? castOnce(value, dtype)
    casts.set(value, cast)
    return cast
  }

  /** A bias that hides keys may be the least float32, which would become an infinity. */
  #bounded(bias: Value): Value {
    if (bias.dtype !== 'float32') return bias
    const bounded = this.#bounds.get(bias) ?? Max(bias, scalar(leastFloat16))
    this.#bounds.set(bias, bounded)
    return bounded
  }
}

function castOnce(value: Value, dtype: Float): Value {
  if (value.kind !== 'constant') return Cast(value, dtype)
  return constant(dtype, value.shape as readonly number[], value.data)
}

/** Constants take the type of what they are put together with. */
function widest(values: readonly Value[]): Float {
  const floats = values.filter(({ dtype }) => isFloat(dtype))
  const computed = floats.filter(({ kind }) => kind !== 'constant')
  return (computed.length > 0 ? computed : floats).some(({ dtype }) => dtype === 'float32')
    ? 'float32'
    : 'float16'
}

const isFloat = (dtype: DataType): dtype is Float => dtype === 'float16' || dtype === 'float32'
