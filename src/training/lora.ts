/**
 * LoRA (Hu et al. 2021, arXiv 2106.09685): the product with a frozen weight W gets `alpha / rank · (x·Aᵀ)·Bᵀ` added, and only A
 * and B are trained. A rewriting of any graph of the model; names and start values are PEFT's.
 *
 * Shapes: W (out, in), A (rank, in), B (out, rank); M rows.
 */
import { createHash } from 'node:crypto'
import { MersenneTwister } from '../diffusion/mersenne-twister.ts'
import {
  apply,
  graph,
  knownAxis,
  parameter,
  scalar,
  type Graph,
  type Node,
  type Parameter,
  type Value,
} from '../graph/ir.ts'
import { Add, Gemm, MatMul, Mul } from '../graph/ops.ts'
import { TrainingError } from './errors.ts'

export interface LoraOptions {
  readonly rank: number
  readonly alpha: number
  /** Whole module names, or what they end in after a dot, as PEFT's `target_modules`. */
  readonly targets: readonly string[]
}

/** The projections of the attentions, self and cross, as diffusers' and PEFT's own training scripts choose them. */
export const defaultTargets: readonly string[] = ['to_q', 'to_k', 'to_v', 'to_out.0']

/** Which products of a model get an adapter. */
export interface Adapter extends LoraOptions {
  /** By their names in the whole model. */
  readonly modules: ReadonlyMap<string, ModuleSize>
}

interface ModuleSize {
  readonly in: number
  readonly out: number
}

export class LoraError extends TrainingError {
  override readonly name = 'LoraError'
}

type Half = 'A' | 'B'

export const loraKey = (module: string, half: Half): string => `${module}.lora_${half}.weight`
export const isLoraKey = (key: string): boolean => /\.lora_[AB]\.weight$/.test(key)
export const loraScale = ({ rank, alpha }: Pick<LoraOptions, 'rank' | 'alpha'>): number => alpha / rank

/**
 * @param model the whole model, in any lowering
 * @throws {LoraError} when the rank is no whole number from 1 on, the alpha no number above 0, or a target is none of the modules
 */
export function planLora(model: Graph, { rank, alpha, targets }: LoraOptions): Adapter {
  if (!Number.isSafeInteger(rank) || rank < 1)
    throw new LoraError(`rank: expected a whole number from 1 on, got ${rank}`)
  if (!(alpha > 0 && Number.isFinite(alpha)))
    throw new LoraError(`alpha: expected a number above 0, got ${alpha}`)
  const available = adaptable(model)
  const unknown = targets.filter((target) => !available.some(({ module }) => isTarget(module, target)))
  if (unknown.length > 0 || targets.length === 0) {
    const names = new Set(available.map(({ module }) => module.replace(/^.*?\.\d+\./, '')))
    const got = unknown.length > 0 ? unknown.join(', ') : 'none'
    throw new LoraError(`targets: expected ends of module names among ${[...names].join(', ')}; got ${got}`)
  }
  const modules = available
    .filter(({ module }) => targets.some((target) => isTarget(module, target)))
    .map(({ module, weight }): [string, ModuleSize] => [
      module,
      { out: knownAxis(weight, 0), in: knownAxis(weight, 1) },
    ])
  return { rank, alpha, targets, modules: new Map(modules) }
}

const isTarget = (module: string, target: string): boolean =>
  module === target || module.endsWith(`.${target}`)

interface Adaptable {
  readonly module: string
  readonly weight: Parameter
}

/** Modules whose weight is a matrix that something is multiplied with; tables that are read row by row are none. */
function adaptable({ parameters, nodes }: Graph): readonly Adaptable[] {
  const tables = new Set(nodes.filter(({ operator }) => operator === 'Gather').map(({ inputs }) => inputs[0]))
  return parameters
    .filter((weight) => weight.name.endsWith('.weight') && weight.shape.length === 2 && !tables.has(weight))
    .filter(({ name }) => !isLoraKey(name))
    .map((weight) => ({ module: moduleOf(weight), weight }))
}

const moduleOf = ({ name }: Parameter): string => name.slice(0, -'.weight'.length)

/** Shapes of all of an adapter's tensors, by their keys. */
export function loraShapes({ modules, rank }: Adapter): Map<string, readonly number[]> {
  const both = ([module, size]: [string, ModuleSize]): [string, readonly number[]][] => [
    [loraKey(module, 'A'), [rank, size.in]],
    [loraKey(module, 'B'), [size.out, rank]],
  ]
  return new Map([...modules].flatMap(both))
}

/**
 * What training starts from: A uniform in ±1/√in (PyTorch's kaiming_uniform with a = √5), B zero, so that the model is unchanged.
 * A tensor's values follow from the seed and its key alone.
 */
export function startLora(adapter: Adapter, seed: number): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(
    [...loraShapes(adapter)].map(([key, [rows = 0, columns = 0]]) => {
      const values = new Float32Array(rows * columns)
      if (key.endsWith('.lora_A.weight')) fillUniform(values, 1 / Math.sqrt(columns), `${seed}/${key}`)
      return [key, values]
    }),
  )
}

function fillUniform(values: Float32Array, bound: number, seed: string): void {
  const random = new MersenneTwister(createHash('sha256').update(seed).digest().readUInt32LE())
  for (let i = 0; i < values.length; i++) values[i] = ((random.next() & 0xffffff) / 2 ** 23 - 1) * bound
}

export interface AdaptOptions {
  /**
   * What the checkpoint's keys of the graph's parameters begin with: several for a graph that is run with the weights of one block
   * after the other. The graph's new parameters are named as its others are, without it.
   */
  readonly prefixes?: readonly string[]
}

/**
 * The graph with the adapter beside its products, A and B as parameters.
 * @throws {LoraError} when of the blocks that share the graph only some have an adapter at the same place
 */
export function withLora(source: Graph, adapter: Adapter, { prefixes = [''] }: AdaptOptions = {}): Graph {
  const chosen = new Map<Value, Parameters>()
  for (const { module, weight } of adaptable(source)) {
    const there = prefixes.filter((prefix) => adapter.modules.has(prefix + module))
    if (there.length === 0) continue
    if (there.length < prefixes.length) {
      const got = `${there.length} of ${prefixes.length} blocks with one at ${module}`
      throw new LoraError(`targets: block by block, expected the same in every block, got ${got}`)
    }
    const [out, width] = weight.shape
    chosen.set(weight, {
      A: parameter(loraKey(module, 'A'), weight.dtype, [adapter.rank, width!]),
      B: parameter(loraKey(module, 'B'), weight.dtype, [out!, adapter.rank]),
    })
  }
  return new Adaptation(source, chosen, loraScale(adapter)).graph()
}

type Parameters = Readonly<Record<Half, Parameter>>

class Adaptation {
  readonly #source: Graph
  readonly #chosen: ReadonlyMap<Value, Parameters>
  readonly #scale: number
  readonly #replaced = new Map<Value, Value>()

  constructor(source: Graph, chosen: ReadonlyMap<Value, Parameters>, scale: number) {
    this.#source = source
    this.#chosen = chosen
    this.#scale = scale
  }

  graph(): Graph {
    const { name, inputs, outputs, nodes } = this.#source
    for (const node of nodes) this.#rewrite(node)
    const now = Object.entries(outputs).map(([key, value]) => [key, this.#now(value)])
    return graph(name, inputs, Object.fromEntries(now))
  }

  #rewrite(node: Node): void {
    const { operator, attributes, outputs } = node
    const beside = operator === 'Gemm' ? this.#adapterOf(node) : undefined
    if (beside) {
      const inputs = node.inputs.map((value) => value && this.#now(value))
      const [product] = apply(operator, inputs, attributes)
      this.#replaced.set(outputs[0]!, beside(product!))
      return
    }
    const inputs = node.inputs.map((value) => value && this.#inFull(value))
    if (inputs.every((value, i) => value === node.inputs[i])) return
    for (const [i, result] of apply(operator, inputs, attributes).entries())
      this.#replaced.set(outputs[i]!, result)
  }

  /** What goes beside a product with a chosen weight: x·Wᵀ of rows (M, in), or W·x of columns (in, M). */
  #adapterOf({ inputs: [a, b], attributes }: Node): ((product: Value) => Value) | undefined {
    if (!a || !b || attributes['transA'] === 1) return undefined
    const [ofRows, ofColumns] = [this.#chosen.get(b), this.#chosen.get(a)]
    if (ofRows && attributes['transB'] === 1) return (product) => this.#beside(this.#now(a), product, ofRows)
    if (ofColumns && attributes['transB'] !== 1)
      return (product) => this.#besideColumns(this.#now(b), product, ofColumns)
    return undefined
  }

  /** product + scale · (x·Aᵀ)·Bᵀ: (M, out). */
  #beside(x: Value, product: Value, { A, B }: Parameters): Value {
    const narrow = Mul(Gemm(x, A, undefined, { transB: 1 }), scalar(this.#scale)) // (M, rank)
    return Gemm(narrow, B, product, { transB: 1 })
  }

  /** product + scale · B·(A·x): (out, M). */
  #besideColumns(x: Value, product: Value, { A, B }: Parameters): Value {
    return Gemm(B, Mul(Gemm(A, x), scalar(this.#scale)), product)
  }

  /** Where a weight is not multiplied with as it lies: W + scale · B·A. */
  #inFull(value: Value): Value {
    const adapter = this.#chosen.get(value)
    if (!adapter) return this.#now(value)
    const known = this.#replaced.get(value)
    const full = known ?? Add(value, Mul(MatMul(adapter.B, adapter.A), scalar(this.#scale)))
    this.#replaced.set(value, full)
    return full
  }

  #now(value: Value): Value {
    return this.#replaced.get(value) ?? value
  }
}
