/** What a model's graphs expect of a checkpoint, read off the graphs themselves. */
import { knownAxis, type Graph } from '../graph/ir.ts'

/** @returns parameter key → shape, over all graphs of one component (the VAE has two) */
export function parameterShapes(...graphs: readonly Graph[]): ReadonlyMap<string, readonly number[]> {
  const parameters = graphs.flatMap((graph) => graph.parameters)
  return new Map(
    parameters.map((parameter) => [parameter.name, parameter.shape.map((_, axis) => knownAxis(parameter, axis))]),
  )
}
