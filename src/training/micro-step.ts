/** One micro-step: a micro-batch and the weights into a loss and its gradients, in whichever sessions the backbone asks for. */
import type { Graph } from '../graph/ir.ts'
import type { Backbone } from './backbones/backbone.ts'
import { blockwiseParts, type BlockwiseGraphs, type RunPart } from './blockwise.ts'
import type { MicroBatch } from './data/micro-batch.ts'
import { gradientName, keyOfGradient } from './gradient-graphs.ts'
import type { SessionNeeds, Tensor, TrainingHost, TrainingSession } from './host.ts'
import { tensorOf, type Tensors } from './tensors.ts'
import { readAll } from './backbones/backbone.ts'
import { parameterShapes } from '../models/parameters.ts'

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

export async function openMicroStepper(
  backbone: Backbone,
  host: Pick<TrainingHost, 'openSession'>,
): Promise<MicroStepper> {
  return backbone.step.kind === 'whole'
    ? openWhole(backbone, backbone.step.graph, host)
    : openBlockwise(backbone, backbone.step.graphs, host)
}

/** The loss alone. */
export interface Evaluator {
  evaluate(batch: MicroBatch, weights: Tensors): Promise<number>
  close(): Promise<void>
}

export async function openEvaluator(
  backbone: Backbone,
  host: Pick<TrainingHost, 'openSession'>,
): Promise<Evaluator> {
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

async function openWhole(
  backbone: Backbone,
  graph: Graph,
  host: Pick<TrainingHost, 'openSession'>,
): Promise<MicroStepper> {
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

async function openBlockwise(
  backbone: Backbone,
  graphs: BlockwiseGraphs,
  host: Pick<TrainingHost, 'openSession'>,
): Promise<MicroStepper> {
  const { entrance, block, exitStep, blockStep, entranceStep } = graphs
  const needs: SessionNeeds = { weights: new Map(), buffers: 'returned' }
  const sessions = new Map<Graph, TrainingSession>()
  for (const part of [entrance, block, exitStep, blockStep, entranceStep])
    if (Object.keys(part.outputs).length > 0) sessions.set(part, await host.openSession(part, needs))
  const shapes = new Map([...sessions.keys()].map((part) => [part, parameterShapes(part)]))
  // One session serves all blocks, so that a frozen weight cannot be the session's own: they are fed, from memory.
  const frozen = await readAll(await backbone.frozen(wholeOf(backbone)))
  return {
    async *run(batch, { weights, gradients, lossScale }) {
      const feeds = { ...batch.feeds, loss_scale: scalar(lossScale) }
      const runPart: RunPart<Floats> = async (part, given, prefix) => {
        const own = Array.from(shapes.get(part)!, ([name, dims]): [string, Tensor] => {
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
        const outputs = await sessions
          .get(part)!
          .run({ ...given, ...Object.fromEntries(own) }, Object.fromEntries(into))
        return Object.fromEntries(
          Object.entries(outputs).map(([name, output]) => [name, { dtype: 'float32', ...output }]),
        )
      }
      const { terms } = yield* blockwiseParts<Floats>(graphs, feeds as Record<string, Floats>, runPart)
      return { loss: terms['loss']!.data[0]! }
    },
    async close() {
      for (const session of sessions.values()) await session.close()
    },
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
