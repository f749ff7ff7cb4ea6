/** A component's weights as training has them: in float32, in memory, given to its graphs at every run. */
import type { Graph } from '../../graph/ir.ts'
import type { Tensors } from '../../training/tensors.ts'
import type { Component } from '../../weights/checkpoint.ts'
import { readFloats } from '../../weights/safetensors.ts'
import { float32, Session, type SessionOptions, type Tensor } from '../session.ts'

export type Feeds = Readonly<Record<string, Tensor>>

export async function readWeights({ tensors }: Component): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>()
  for (const [key, location] of tensors) weights.set(key, await readFloats(location))
  return weights
}

/** Float32 outputs by name. */
export type Outputs = ReadonlyMap<string, Float32Array>

/** Runs of one graph, each with the weights as they are at that time. */
export interface TrainingRuns {
  readonly run: (weights: Tensors, feeds: Feeds) => Promise<Outputs>
  readonly close: () => Promise<void>
}

/** @throws {SessionError} when the provider cannot run the graph */
export async function openTrainingRuns(graph: Graph, options: SessionOptions): Promise<TrainingRuns> {
  const session = await Session.open(graph, 'inputs', options)
  return {
    run: async (weights, feeds) => {
      const own = graph.parameters.map(({ name, shape }) => {
        const weight = weights.get(name)
        if (weight === undefined) throw new Error(`${graph.name}: the checkpoint has no ${name}`)
        return [name, float32(weight, ...shape.map(Number))] as const
      })
      const outputs = await session.run({ ...feeds, ...Object.fromEntries(own) })
      return new Map(
        Object.entries(outputs).flatMap(([name, tensor]) =>
          tensor.dtype === 'float32' ? [[name, tensor.data] as const] : [],
        ),
      )
    },
    close: () => session.close(),
  }
}

/** @throws when the graph has no float32 output of that name */
export function outputOf(outputs: Outputs, name: string): Float32Array {
  const output = outputs.get(name)
  if (output === undefined) throw new Error(`expected an output ${name}, and there is none`)
  return output
}
