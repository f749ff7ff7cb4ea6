import { describe, expect, test } from 'vitest'
import { float32, Session, type Tensor } from '../../src/engine/session.ts'
import { readPixArtConfig } from '../../src/models/pixart.ts'
import { defaultAdamW, startAdamW, stepAdamW } from '../../src/training/adamw.ts'
import { gradientName, transformerStep } from '../../src/training/gradient-graphs.ts'
import { clipFactor, globalNorm, GradientSum } from '../../src/training/gradient-sum.ts'
import { learningRate } from '../../src/training/learning-rate.ts'
import { updateAverage } from '../../src/training/moving-average.ts'
import type { Tensors } from '../../src/training/tensors.ts'
import { component, reference, variants, type Variant } from '../models/golden.ts'
import { difference } from '../safetensors.ts'
import {
  goldenWeights,
  latentsOf,
  ownWeights,
  process,
  trainingReferences,
  transformerFeeds,
  type Feeds,
} from './golden-batch.ts'

async function openTraining(variant: Variant) {
  const config = readPixArtConfig((await component(variant, 'transformer')).config)
  const graph = transformerStep(config, process, { kind: 'variational' })
  const session = await Session.open(graph, 'inputs', { provider: 'cpu', threads: 1 })
  const tensors = await goldenWeights(variant, 'transformer')
  const weights: Tensors = new Map([...tensors].map(([key, { data }]) => [key, data]))
  const run = async (feeds: Feeds): Promise<{ loss: number; gradients: Tensors }> => {
    const outputs = await session.run({ ...feeds, ...ownWeights(graph, tensors) })
    return {
      loss: floats(outputs['loss'])[0]!,
      gradients: new Map([...weights.keys()].map((key) => [key, floats(outputs[gradientName(key)])])),
    }
  }
  return { config, weights, run, close: () => session.close() }
}

function floats(tensor: Tensor | undefined): Float32Array {
  if (tensor?.dtype !== 'float32') throw new Error('expected float32')
  return tensor.data
}

/** The largest difference of any element from the references of that prefix. */
function worstDifference(
  actual: Tensors,
  references: ReturnType<typeof trainingReferences>,
  prefix: string,
): number {
  const all = [...actual]
    // Its gradient is mathematically zero, and Adam makes steps of the rounding errors.
    .filter(([key]) => !key.endsWith('.to_k.bias'))
    .map(([key, data]) => difference(data, reference(references, prefix + key).data).absolute)
  return Math.max(...all)
}

describe.each(variants)('five steps end where PyTorch ends: %s', (variant) => {
  test('losses, gradient norms, weights and their moving average', async () => {
    const references = trainingReferences(variant)
    const { config, weights, run, close } = await openTraining(variant)
    const average: Tensors = new Map([...weights].map(([key, data]) => [key, data.slice()]))
    const state = startAdamW(weights)
    const [losses, norms]: [number[], number[]] = [[], []]
    for (let step = 0; step < 5; step++) {
      const { loss, gradients } = await run(transformerFeeds(references, config, latentsOf(references, step)))
      const norm = globalNorm(gradients)
      stepAdamW(weights, state, { gradients, scale: clipFactor(norm, 0.5), learningRate: 1e-3 }, defaultAdamW)
      updateAverage(average, weights, 0.99)
      losses.push(loss)
      norms.push(norm)
    }
    await close()
    expect(difference(losses, reference(references, 'steps.loss').data).relative).toBeLessThanOrEqual(1e-4)
    expect(difference(norms, reference(references, 'steps.grad_norm').data).relative).toBeLessThanOrEqual(
      1e-4,
    )
    expect(worstDifference(weights, references, 'after.')).toBeLessThanOrEqual(2e-5)
    expect(worstDifference(average, references, 'ema.')).toBeLessThanOrEqual(2e-5)
  })
})

test('gradients of micro-batches add up to those of the whole batch', async () => {
  const references = trainingReferences('tiny-512')
  const { config, weights, run, close } = await openTraining('tiny-512')
  const feeds = transformerFeeds(references, config, latentsOf(references))
  const rows = (from: number, to: number): Feeds =>
    Object.fromEntries(
      Object.entries(feeds).map(([name, tensor]) => {
        const [count = 1, ...rest] = tensor.dims
        const size = tensor.data.length / count
        return [name, float32(floats(tensor).slice(from * size, to * size), to - from, ...rest)]
      }),
    )
  const whole = await run(feeds)
  const sum = new GradientSum(weights)
  sum.add((await run(rows(0, 3))).gradients, 3)
  sum.add((await run(rows(3, 4))).gradients, 1)
  await close()
  expect(sum.weight).toBe(4)
  const largest = Math.max(
    ...[...whole.gradients.values()].map(
      (data) =>
        difference(
          data,
          data.map(() => 0),
        ).absolute,
    ),
  )
  for (const [key, data] of sum.gradients) {
    const mean = data.map((value) => value / sum.weight)
    expect(difference(mean, whole.gradients.get(key)!).absolute / largest).toBeLessThanOrEqual(1e-6)
  }
  sum.adding(whole.gradients, 1).next() // and no further
  sum.clear()
  sum.add(whole.gradients, 1)
  expect([...sum.gradients]).toEqual([...whole.gradients])
  expect(sum.weight).toBe(1)
})

describe('AdamW', () => {
  const one = (value: number): Tensors => new Map([['w', Float32Array.of(value)]])

  test('the first step goes by the learning rate against the sign of the gradient, whatever its size', () => {
    for (const gradient of [1e-3, -40]) {
      const weights = one(2)
      const options = { ...defaultAdamW, weightDecay: () => 0 }
      stepAdamW(
        weights,
        startAdamW(weights),
        { gradients: one(gradient), scale: 1, learningRate: 0.125 },
        options,
      )
      expect(weights.get('w')![0]).toBeCloseTo(2 - 0.125 * Math.sign(gradient), 6)
    }
  })
  test('decay is apart from the gradient and by group', () => {
    const weights: Tensors = new Map([
      ['weight', Float32Array.of(2)],
      ['bias', Float32Array.of(2)],
    ])
    const gradients: Tensors = new Map([...weights.keys()].map((key) => [key, Float32Array.of(0)]))
    const options = { ...defaultAdamW, weightDecay: (key: string) => (key === 'bias' ? 0 : 0.5) }
    stepAdamW(weights, startAdamW(weights), { gradients, scale: 1, learningRate: 0.25 }, options)
    expect(weights.get('weight')![0]).toBe(2 * (1 - 0.125))
    expect(weights.get('bias')![0]).toBe(2)
  })
  test('a gradient that is missing or has another size is refused by key', () => {
    const weights = one(2)
    const step = (gradients: Tensors) => () =>
      stepAdamW(weights, startAdamW(weights), { gradients, scale: 1, learningRate: 1 }, defaultAdamW)
    expect(step(new Map())).toThrow('w: expected 1 elements, got no such tensor')
    expect(step(new Map([['w', new Float32Array(2)]]))).toThrow('w: expected 1 elements, got 2')
  })
})

test('clipping leaves small gradients alone and brings large ones to the bound', () => {
  const gradients: Tensors = new Map([
    ['a', Float32Array.of(3)],
    ['b', Float32Array.of(0, -4)],
  ])
  expect(globalNorm(gradients)).toBe(5)
  expect(clipFactor(5, 10)).toBe(1)
  expect(clipFactor(5, 0.01) * 5).toBeCloseTo(0.01, 8)
})

describe('the learning rate', () => {
  const schedule = { kind: 'constant', peak: 2e-5, warmupSteps: 4, steps: 12 } as const
  const rates = (kind: 'constant' | 'cosine') =>
    [0, 1, 3, 4, 8, 11, 12, 20].map((step) => learningRate({ ...schedule, kind }, step) / 2e-5)

  test('grows evenly in the warm-up, then stays', () => {
    expect(rates('constant')).toEqual([0.25, 0.5, 1, 1, 1, 1, 1, 1])
  })
  test('or falls along a cosine to zero', () => {
    const expected = [0.25, 0.5, 1, 1, 0.5, (1 + Math.cos((7 / 8) * Math.PI)) / 2, 0, 0]
    for (const [i, rate] of rates('cosine').entries()) expect(rate).toBeCloseTo(expected[i]!, 12)
  })
  test('without a warm-up begins at the peak', () => {
    expect(learningRate({ ...schedule, warmupSteps: 0 }, 0)).toBe(2e-5)
  })
})
