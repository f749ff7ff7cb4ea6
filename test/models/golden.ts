/** The golden checkpoints, opened as serving opens them, and the references to hold a model against. */
import { fileURLToPath } from 'node:url'
import { Session, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import type { LoweringName } from '../../src/models/lowering.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { openComponent, type Component } from '../../src/weights/checkpoint.ts'
import { matchTensors } from '../../src/weights/match.ts'
import { difference, readFixture, type FixtureTensor } from '../safetensors.ts'

export const variants = ['tiny-512', 'tiny-1024-ms'] as const
export const loweringNames = ['serve', 'plain'] as const satisfies readonly LoweringName[]

export type Variant = (typeof variants)[number]

export const cases = variants.flatMap((variant) => loweringNames.map((lowering) => ({ variant, lowering })))

export const component = (variant: Variant, name: string): Promise<Component> =>
  openComponent(fileURLToPath(new URL(`../fixtures/golden/${variant}/checkpoint/${name}`, import.meta.url)))

/** A session for one graph of the component, its weights matched strictly against those that are the graph's own. */
export async function open(
  graph: Graph,
  { tensors }: Component,
  { lowering, threads = 2 }: { readonly lowering: LoweringName; readonly threads?: number },
): Promise<Session> {
  const known = parameterShapes(graph)
  const own = new Map([...tensors].filter(([name]) => known.has(name)))
  const fusion = lowering === 'plain' ? 'elementary' : 'all'
  return Session.open(graph, matchTensors(known, own), { provider: 'cpu', threads, fusion })
}

export const references = (variant: Variant): Map<string, FixtureTensor> =>
  readFixture(`golden/${variant}/golden.safetensors`)

/** A reference as float32, with its shape; golden ids and masks are int32. */
export function reference(tensors: ReadonlyMap<string, FixtureTensor>, key: string): { data: Float32Array; shape: readonly number[] } {
  const tensor = tensors.get(key)
  if (tensor?.dtype === 'F32') return tensor
  if (tensor?.dtype === 'I32') return { data: Float32Array.from(tensor.data), shape: tensor.shape }
  throw new Error(`${key}: expected F32 or I32, found ${tensor?.dtype ?? 'no such tensor'}`)
}

/** Whether two tensors agree within the bounds of issue 2: 1e-4, and 2e-5 of the largest magnitude. */
export function parity(actual: Tensor | undefined, expected: { readonly data: Float32Array }): string {
  if (actual?.dtype !== 'float32') return 'not float32'
  const { absolute, relative } = difference(actual.data, expected.data)
  return absolute <= 1e-4 && relative <= 2e-5 ? 'within bounds' : `off by ${absolute}, ${relative} of the largest`
}
