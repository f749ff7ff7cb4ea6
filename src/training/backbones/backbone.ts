/** What a stage trains: graphs of its loss, the tensors that are trained, and where the others lie. */
import type { Graph } from '../../graph/ir.ts'
import type { DitConfig } from '../../models/dit.ts'
import type { PixArtConfig } from '../../models/pixart.ts'
import type { Adapter } from '../lora.ts'
import { parameterDtypes, parameterShapes } from '../../models/parameters.ts'
import { tensorsFor, type CastSource } from '../../weights/cast.ts'
import { readFloats, type TensorLocation } from '../../weights/safetensors.ts'
import type { BlockwiseGraphs } from '../blockwise.ts'
import type { ComponentName, TrainedComponent, TrainedTensor } from '../checkpoint.ts'
import type { TrainingJob, TrainingStage } from '../job.ts'
import type { ModelParts } from '../model-parts.ts'
import type { DiffusionProcess } from '../diffusion-process.ts'
import { tensorOf, type Tensors } from '../tensors.ts'
import type { MicroBatch } from '../data/micro-batch.ts'
import type { TrainingHost } from '../host.ts'

export interface Backbone {
  /** By the graphs' parameter names, which are the components' keys. */
  readonly trained: ReadonlyMap<string, TrainedTensor>
  /** Loss and gradients. */
  readonly step:
    | { readonly kind: 'whole'; readonly graph: Graph }
    | { readonly kind: 'blockwise'; readonly graphs: BlockwiseGraphs }
  /** The loss alone. */
  readonly evaluation: Graph
  /** What the components are when the stage has ended, but for where. */
  readonly becomes: Becoming
  /** The number of no class, as micro-batches have it and as the model has it, where they differ. */
  readonly noClass?: { readonly given: number; readonly taken: number }
  /** What pictures are painted with; undefined where the stage trains no transformer. */
  readonly paints?:
    | {
        readonly kind: 'text'
        readonly config: PixArtConfig
        readonly adapter: Adapter | undefined
        readonly textEncoder: 'frozen' | 'trained'
      }
    | { readonly kind: 'class'; readonly config: DitConfig; readonly classes: readonly string[] }
  /** What the components are, once these are the averaged weights, where that must be measured. */
  finish?(
    average: Tensors,
    pictures: AsyncIterable<MicroBatch>,
    host: TrainingHost,
  ): AsyncGenerator<void, Becoming, void>
  /** Weights to begin with, in buffers of their own. */
  initial(): Promise<Map<string, Float32Array>>
  /** Where those of the graph's weights lie that are not trained, in the types that it reads them in. */
  frozen(graph: Graph): Promise<ReadonlyMap<string, TensorLocation>>
}

export type Becoming = Readonly<Partial<Record<ComponentName, Omit<TrainedComponent, 'checkpoint'>>>>

export interface BackboneOptions {
  readonly job: TrainingJob
  readonly stage: TrainingStage
  readonly parts: ModelParts
  readonly process: DiffusionProcess
  /** Labels of the pictures. */
  readonly classes: readonly string[]
}

export function trainedTensors(component: ComponentName, graph: Graph): Map<string, TrainedTensor> {
  return new Map([...parameterShapes(graph)].map(([key, shape]) => [key, { component, shape }]))
}

/** All of these, as float32 in buffers of their own. */
export async function readAll(
  locations: ReadonlyMap<string, TensorLocation>,
): Promise<Map<string, Float32Array>> {
  const tensors = new Map<string, Float32Array>()
  for (const [key, location] of locations) tensors.set(key, await readFloats(location))
  return tensors
}

/** Those that the graph reads of a component, in the types that it reads them in. */
export async function frozenOf(
  { name, fingerprint, tensors }: CastSource,
  graph: Graph,
  cacheDir: string,
): Promise<ReadonlyMap<string, TensorLocation>> {
  const read = new Map(
    graph.parameters.flatMap(({ name: key }) => {
      const location = tensors.get(key)
      return location ? [[key, location] as const] : []
    }),
  )
  return tensorsFor({ name, fingerprint, tensors: read }, parameterDtypes(graph), cacheDir)
}

export const nothingFrozen = (): Promise<ReadonlyMap<string, TensorLocation>> => Promise.resolve(new Map())

/** Elements by key. */
export const lengthsOf = (shapes: ReadonlyMap<string, readonly number[]>): Map<string, number> =>
  new Map([...shapes].map(([key, shape]) => [key, shape.reduce((a, b) => a * b, 1)]))

/** In the order of `like`. @throws {RangeError} naming the tensor that is missing or of another size */
export const inOrder = (
  tensors: ReadonlyMap<string, Float32Array>,
  like: ReadonlyMap<string, TrainedTensor>,
): Map<string, Float32Array> =>
  new Map(
    [...like].map(([key, { shape }]) => [
      key,
      tensorOf(
        tensors,
        key,
        shape.reduce((a, b) => a * b, 1),
      ),
    ]),
  )
