/** The golden checkpoints, opened as serving opens them, and the references to hold a model against. */
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { Session } from '../../src/engine/session.ts'
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

export async function open(graph: Graph, { tensors }: Component, threads = 2): Promise<Session> {
  const known = parameterShapes(graph)
  const own = new Map([...tensors].filter(([name]) => known.has(name)))
  return Session.open(graph, matchTensors(known, own), {
    provider: 'cpu',
    threads,
    fusion: graph.name.startsWith('plain') ? 'elementary' : 'all',
  })
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

/** The bounds of issue 2. */
export function expectParity(actual: ArrayLike<number> | undefined, expected: ArrayLike<number>): void {
  const { absolute, relative } = difference(actual ?? [], expected)
  expect(absolute).toBeLessThanOrEqual(1e-4)
  expect(relative).toBeLessThanOrEqual(2e-5)
}
