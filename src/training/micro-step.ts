/** One micro-step: a micro-batch and the weights into a loss and its gradients, in whichever sessions the backbone asks for. */
import type { Graph } from '../graph/ir.ts'
import type { Backbone } from './backbones/backbone.ts'
import { blockwiseParts, type BlockwiseGraphs, type RunPart } from './blockwise.ts'
import type { MicroBatch } from './data/micro-batch.ts'
import { gradientName, keyOfGradient } from './gradient-graphs.ts'
import type { Tensor, TrainingDevice, TrainingSession } from './host.ts'
import { tensorOf, type Tensors } from './tensors.ts'
import { readAll } from './backbones/backbone.ts'
import { parameterShapes } from '../models/parameters.ts'
import type { TensorLocation } from '../weights/safetensors.ts'

type Feeds = Readonly<Record<string, Tensor>>

export interface MicroStepOptions {
  readonly weights: Tensors
  /** Are written: of the mean over the micro-batch's rows, times the scale of the loss. */
  readonly gradients: Tensors
  readonly lossScale: number
}

/** Stops where the device may do other work. */
export interface MicroStepper {
  run(batch: MicroBatch, options: MicroStepOptions): AsyncGenerator<void, { readonly loss: number }, void>
  close(): Promise<void>
}

export async function openMicroStepper(backbone: Backbone, host: TrainingDevice): Promise<MicroStepper> {
  return backbone.step.kind === 'whole'
    ? openWhole(backbone, backbone.step.graph, host)
    : openBlockwise(backbone, backbone.step.graphs, host)
}

/** The loss alone. */
export interface Evaluator {
  evaluate(batch: MicroBatch, weights: Tensors): Promise<number>
  close(): Promise<void>
}

export async function openEvaluator(backbone: Backbone, host: TrainingDevice): Promise<Evaluator> {
  const graph = backbone.evaluation
  const session = await host.openSession(graph, { weights: await backbone.frozen(graph) })
  return {
    evaluate: async (batch, weights) =>
      lossOf(
        await session.run({ ...ofBatch(backbone, graph, batch), ...weightFeeds(backbone, graph, weights) }),
      ),
    close: () => session.close(),
  }
}

async function openWhole(backbone: Backbone, graph: Graph, host: TrainingDevice): Promise<MicroStepper> {
  const session = await host.openSession(graph, { weights: await backbone.frozen(graph) })
  const remembered = new Remembered((weights: Tensors) => weightFeeds(backbone, graph, weights))
  const buffers = new Remembered((gradients: Tensors) =>
    Object.fromEntries([...gradients].map(([key, data]) => [gradientName(key), data])),
  )
  return {
    // oxlint-disable-next-line require-yield -- the graph runs at once
    async *run(batch, { weights, gradients, lossScale }) {
      const feeds = { ...ofBatch(backbone, graph, batch, lossScale), ...remembered.of(weights) }
      return { loss: lossOf(await session.run(feeds, buffers.of(gradients))) }
    },
    close: () => session.close(),
  }
}

/**
 * Trained weights are fed, so that one session serves all blocks. Frozen ones stay in their files, shared with whoever else reads
 * them: then each block has sessions of its own.
 */
async function openBlockwise(
  backbone: Backbone,
  graphs: BlockwiseGraphs,
  host: TrainingDevice,
): Promise<MicroStepper> {
  const locations = await backbone.frozen(wholeOf(backbone))
  // In float16 the parts take float32 and narrow it themselves.
  const inFiles = [...locations.values()].every(({ dtype }) => dtype === 'F32')
  const frozen = inFiles ? new Map<string, Float32Array>() : await readAll(locations)
  const sessions = new PartSessions(host, inFiles ? locations : new Map())
  return {
    async *run(batch, { weights, gradients, lossScale }) {
      const feeds = { ...batch.feeds, loss_scale: scalar(lossScale) }
      const runPart: RunPart<Floats> = async (part, given, prefix) => {
        const { session, fed } = await sessions.of(part, prefix)
        const own = Array.from(fed, ([name, dims]): [string, Tensor] => {
          const data = weights.get(prefix + name) ?? frozen.get(prefix + name)
          if (data === undefined)
            throw new RangeError(`${prefix}${name}: expected a weight, got no such tensor`)
          return [name, { dtype: 'float32', data, dims }]
        })
        // A part's gradients may be of parameters that it does not read itself.
        const into = Object.keys(part.outputs).flatMap((name): [string, Float32Array][] => {
          const key = keyOfGradient(name)
          const buffer = key === undefined ? undefined : gradients.get(prefix + key)
          return buffer ? [[name, buffer]] : []
        })
        const outputs = await session.run({ ...given, ...Object.fromEntries(own) }, Object.fromEntries(into))
        return Object.fromEntries(
          Object.entries(outputs).map(([name, output]) => [name, { dtype: 'float32', ...output }]),
        )
      }
      const { terms } = yield* blockwiseParts<Floats>(graphs, feeds as Record<string, Floats>, runPart)
      return { loss: terms['loss']!.data[0]! }
    },
    close: () => sessions.close(),
  }
}

interface PartSession {
  readonly session: TrainingSession
  /** Shapes of the parameters that are fed. */
  readonly fed: ReadonlyMap<string, readonly number[]>
}

/** Opened when they are first needed. */
class PartSessions {
  readonly #host: TrainingDevice
  readonly #files: ReadonlyMap<string, TensorLocation>
  readonly #open = new Map<string, PartSession>()

  constructor(host: TrainingDevice, files: ReadonlyMap<string, TensorLocation>) {
    this.#host = host
    this.#files = files
  }

  /** @param prefix what the keys of the part's parameters begin with */
  async of(part: Graph, prefix: string): Promise<PartSession> {
    const key = this.#files.size > 0 ? `${part.name} ${prefix}` : part.name
    const known = this.#open.get(key)
    if (known) return known
    const shapes = [...parameterShapes(part)]
    const weights = new Map(
      shapes.flatMap(([name]) => {
        const location = this.#files.get(prefix + name)
        return location ? [[name, location] as const] : []
      }),
    )
    const session = await this.#host.openSession(part, { weights, buffers: 'returned' })
    const opened = { session, fed: new Map(shapes.filter(([name]) => !weights.has(name))) }
    this.#open.set(key, opened)
    return opened
  }

  async close(): Promise<void> {
    for (const { session } of this.#open.values()) await session.close()
  }
}

interface Floats extends Tensor {
  readonly dtype: 'float32'
  readonly data: Float32Array
}

/** Every weight of the model is a parameter of its loss. */
const wholeOf = ({ evaluation }: Backbone): Graph => evaluation

/** What the graph takes of a micro-batch. */
function ofBatch(
  { noClass }: Backbone,
  { name, inputs }: Graph,
  { feeds }: MicroBatch,
  lossScale?: number,
): Feeds {
  return Object.fromEntries(
    inputs.map((input): [string, Tensor] => {
      if (input.name === 'loss_scale') return [input.name, scalar(lossScale ?? 1)]
      const feed = feeds[input.name]
      if (feed === undefined)
        throw new RangeError(`${name}: expected ${input.name} of a micro-batch, got nothing`)
      return [input.name, noClass && input.name === 'class' ? withNoClass(feed, noClass) : feed]
    }),
  )
}

const withNoClass = (
  { data, dims }: Tensor,
  { given, taken }: { readonly given: number; readonly taken: number },
): Tensor => ({
  dtype: 'int32',
  data: Int32Array.from(data, (label) => (label === given ? taken : label)),
  dims,
})

const scalar = (value: number): Tensor => ({ dtype: 'float32', data: Float32Array.of(value), dims: [] })

/** Those of the graph's parameters that are trained. */
const weightFeeds = ({ trained }: Backbone, { parameters }: Graph, weights: Tensors): Feeds =>
  Object.fromEntries(
    parameters.flatMap(({ name }): [string, Tensor][] => {
      const shape = trained.get(name)?.shape
      if (shape === undefined) return []
      const data = tensorOf(
        weights,
        name,
        shape.reduce((a, b) => a * b, 1),
      )
      return [[name, { dtype: 'float32', data, dims: shape }]]
    }),
  )

/** What follows from the buffers of the last call, which are those of most calls. */
class Remembered<Key extends object, Value> {
  readonly #make: (key: Key) => Value
  #last: { readonly key: Key; readonly value: Value } | undefined

  constructor(make: (key: Key) => Value) {
    this.#make = make
  }

  of(key: Key): Value {
    if (this.#last?.key !== key) this.#last = { key, value: this.#make(key) }
    return this.#last.value
  }
}

const lossOf = ({ loss }: Readonly<Record<string, { readonly data: Float32Array }>>): number => {
  const [value] = loss?.data ?? []
  if (value === undefined) throw new TypeError('the graph has no loss')
  return value
}
