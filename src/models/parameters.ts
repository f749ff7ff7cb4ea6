/** What a model's graphs expect of a checkpoint, read off the graphs themselves. */
import type { DataType } from '../graph/data-type.ts'
import { knownAxis, type Graph } from '../graph/ir.ts'
import type { DtypePolicy } from '../weights/cast.ts'
import type { Dtype } from '../weights/dtypes.ts'

/** @returns parameter key → shape, over all graphs of one component (the VAE has two) */
export function parameterShapes(...graphs: readonly Graph[]): ReadonlyMap<string, readonly number[]> {
  const parameters = graphs.flatMap((graph) => graph.parameters)
  return new Map(
    parameters.map((parameter) => [parameter.name, parameter.shape.map((_, axis) => knownAxis(parameter, axis))]),
  )
}

const dtypes: Readonly<Partial<Record<DataType, Dtype>>> = {
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  uint8: 'U8',
}

/** Each parameter in the type that the graphs read it in; other tensors stay as they are. */
export function parameterDtypes(...graphs: readonly Graph[]): DtypePolicy {
  const expected = new Map(graphs.flatMap(({ parameters }) => parameters).map(({ name, dtype }) => [name, dtypes[dtype]]))
  return (name, dtype) => expected.get(name) ?? dtype
}
