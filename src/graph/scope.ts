/**
 * Where in a model we are. A scope is a path in the checkpoint: the parameter `weight` asked for at `blocks.0.proj` is a graph
 * value whose name, `blocks.0.proj.weight`, is its key there.
 */
import type { DataType } from './data-type.ts'
import { dimensionText, sameDimension, type Dimension } from './dimension.ts'
import { integers, parameter, sameShape, type Parameter, type Shape, type Value } from './ir.ts'
import { Concat, Shape as ShapeOf } from './ops.ts'
import { shapeText } from './shapes.ts'

/** How a checkpoint stores a matrix whose elements it does not hold as the graph's own type. */
export type WeightFormat =
  | { readonly kind: 'float16' }
  | {
      readonly kind: 'blocks'
      readonly bits: 4 | 8
      readonly blockSize: number
      /** Whether a kernel may round what it multiplies with to int8; float32 when left out. */
      readonly activations?: 'float32' | 'int8'
    }

/** What of a checkpoint the shapes of its tensors follow from, apart from the model's configuration. */
export interface WeightStorage {
  /** Key → format, of those matrices that are not stored in full. */
  readonly formats: ReadonlyMap<string, WeightFormat>
  /** Whether products with them take ONNX Runtime's own operator or standard ones. */
  readonly kernels: 'fused' | 'elementary'
}

const inFull: WeightStorage = { formats: new Map(), kernels: 'fused' }

interface Shared {
  readonly dtype: DataType
  readonly storage: WeightStorage
  readonly parameters: Map<string, Parameter>
  readonly sizes: Map<string, Value>
}

export class Scope {
  readonly path: string
  readonly #shared: Shared

  private constructor(path: string, shared: Shared) {
    this.path = path
    this.#shared = shared
  }

  static root(dtype: DataType = 'float32', storage: WeightStorage = inFull): Scope {
    return new Scope('', { dtype, storage, parameters: new Map(), sizes: new Map() })
  }

  /** How products with stored matrices are to be computed. */
  get kernels(): WeightStorage['kernels'] {
    return this.#shared.storage.kernels
  }

  /** The scope of a part: `scope.at('blocks', 0, 'proj')`. */
  at(...names: readonly (string | number)[]): Scope {
    return new Scope([this.path, ...names].filter((name) => name !== '').join('.'), this.#shared)
  }

  /** How the checkpoint stores the matrix of that name here; undefined when in full. */
  formatOf(name: string): WeightFormat | undefined {
    return this.#shared.storage.formats.get(this.at(name).path)
  }

  /**
   * The parameter of that name here; asked for twice, it is the same value.
   * @param dtype the scope's own by default
   * @throws {TypeError} when it was asked for with another shape before
   */
  parameter(name: string, shape: Shape, dtype: DataType = this.#shared.dtype): Parameter {
    const key = this.at(name).path
    const { parameters } = this.#shared
    const known = parameters.get(key)
    if (known === undefined) {
      const fresh = parameter(key, dtype, shape)
      parameters.set(key, fresh)
      return fresh
    }
    if (sameShape(known.shape, shape)) return known
    throw new TypeError(`${key} is asked for as ${shapeText(shape)} and as ${shapeText(known.shape)}`)
  }

  /**
   * A shape as a value. Symbolic sizes are read from `like`, once for the whole model.
   * @throws {TypeError} when a symbolic size is neither an axis of `like` nor known from before
   */
  shape(dimensions: readonly Dimension[], ...like: readonly Value[]): Value {
    const parts = dimensions.map((dimension) => this.#size(dimension, like))
    const [only] = parts
    return this.#remember(dimensions.map(dimensionText).join(', '), () =>
      only !== undefined && parts.length === 1 ? only : Concat(parts, { axis: 0 }),
    )
  }

  #size(dimension: Dimension, like: readonly Value[]): Value {
    if (typeof dimension === 'number') return integers(dimension)
    return this.#remember(dimension.text, () => {
      for (const value of like) {
        const axis = value.shape.findIndex((size) => sameDimension(size, dimension))
        if (axis >= 0) return ShapeOf(value, { start: axis, end: axis + 1 })
      }
      throw new TypeError(
        `no axis of ${like.map(({ shape }) => shapeText(shape)).join(', ')} is ${dimension.text}`,
      )
    })
  }

  #remember(text: string, make: () => Value): Value {
    const known = this.#shared.sizes.get(text)
    if (known !== undefined) return known
    const fresh = make()
    this.#shared.sizes.set(text, fresh)
    return fresh
  }
}
