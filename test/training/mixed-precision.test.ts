import { expect, test } from 'vitest'
import { Session, type Tensor } from '../../src/engine/session.ts'
import { readPixArtConfig } from '../../src/models/pixart.ts'
import { atPrecision } from '../../src/models/precision.ts'
import { gradientName, transformerStep } from '../../src/training/gradient-graphs.ts'
import { afterGoodStep, afterOverflow, startLossScale } from '../../src/training/loss-scale.ts'
import { component } from '../models/golden.ts'
import {
  goldenWeights,
  latentsOf,
  ownWeights,
  process,
  trainingReferences,
  transformerFeeds,
} from './golden-batch.ts'
import { ofType, oneStage, run } from './small-run.ts'

const floats = (tensor: Tensor | undefined): Float32Array => {
  if (tensor?.dtype !== 'float32') throw new Error('expected float32')
  return tensor.data
}

const norm = (data: Float32Array): number => Math.hypot(...data)

test('gradients with float16 activations, of the scaled loss, are those of float32', async () => {
  const config = readPixArtConfig((await component('tiny-512', 'transformer')).config)
  const references = trainingReferences('tiny-512')
  const weights = await goldenWeights('tiny-512', 'transformer')
  const feeds = transformerFeeds(references, config, latentsOf(references))
  const gradientsOf = async (precision: 'float32' | 'float16', scale: number) => {
    const step = transformerStep(config, process, { kind: 'variational', scaling: 'loss_scale' })
    const graph = atPrecision(step, precision, { isMaster: () => true })
    const session = await Session.open(graph, 'inputs', { provider: 'cpu', threads: 1 })
    const outputs = await session.run({
      ...feeds,
      ...ownWeights(graph, weights),
      loss_scale: { dtype: 'float32', data: Float32Array.of(scale), dims: [] },
    })
    await session.close()
    return new Map(
      [...weights.keys()].map((key) => [
        key,
        floats(outputs[gradientName(key)]).map((value) => value / scale),
      ]),
    )
  }
  const exact = await gradientsOf('float32', 1)
  const half = await gradientsOf('float16', 1024)
  const largest = Math.max(...[...exact.values()].map(norm))
  for (const [key, gradient] of exact) {
    const apart = norm(gradient.map((value, i) => value - half.get(key)![i]!))
    expect(apart).toBeGreaterThan(0)
    expect(apart / Math.max(norm(gradient), 1e-3 * largest)).toBeLessThan(2e-2)
  }
})

test('the scale halves at an overflow, doubles after 2000 steps without one, and stops at 1', () => {
  let state = startLossScale
  for (let step = 0; step < 2000; step++) state = afterGoodStep(state)
  expect(state).toEqual({ scale: 131_072, goodSteps: 0 })
  expect(afterOverflow(afterGoodStep(state))).toEqual({ scale: 65_536, goodSteps: 0 })
  expect(afterOverflow({ scale: 1, goodSteps: 3 })).toBeUndefined()
})

test('a job in float16 survives overflows, which teach it nothing', async () => {
  const job = await oneStage({ precision: 'float16', steps: 6, learningRate: 1e-4 }, { maxMicroStepMs: 1e9 })
  const { events, outcome } = await run(job)
  expect(outcome).toEqual({ kind: 'succeeded' })
  const [notes, steps] = [ofType(events, 'note'), ofType(events, 'step')]
  expect(notes.length + steps.length).toBe(6)
  expect(steps.length).toBeGreaterThan(0)
  expect(notes[0]!.message).toMatch(/^stage 1, step \d: float16 overflowed; .* scaled by 32768 from now on$/)
})
