import { expect, test } from 'vitest'
import { Session, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { readPixArtConfig } from '../../src/models/pixart.ts'
import { blockwiseGraphs, blockwiseStep } from '../../src/training/blockwise.ts'
import { transformerStep } from '../../src/training/gradient-graphs.ts'
import { component, variants } from '../models/golden.ts'
import { difference } from '../safetensors.ts'
import {
  goldenWeights,
  latentsOf,
  ownWeights,
  process,
  trainingReferences,
  transformerFeeds,
} from './golden-batch.ts'

const floats = (tensor: Tensor | undefined): Tensor<'float32'> => {
  if (tensor?.dtype !== 'float32') throw new Error('expected float32')
  return tensor
}

test.each(variants)('block by block come the same loss and gradients as at once: %s', async (variant) => {
  const config = readPixArtConfig((await component(variant, 'transformer')).config)
  const references = trainingReferences(variant)
  const weights = await goldenWeights(variant, 'transformer')
  const feeds = transformerFeeds(references, config, latentsOf(references)) as Readonly<
    Record<string, Tensor<'float32'>>
  >
  const options = { provider: 'cpu', threads: 1 } as const

  const atOnce = transformerStep(config, process, { kind: 'variational' })
  const session = await Session.open(atOnce, 'inputs', options)
  const expected = await session.run({ ...feeds, ...ownWeights(atOnce, weights) })
  await session.close()

  const sessions = new Map<Graph, Session>()
  const run = async (part: Graph, given: Readonly<Record<string, Tensor<'float32'>>>, prefix: string) => {
    const session = sessions.get(part) ?? (await Session.open(part, 'inputs', options))
    sessions.set(part, session)
    const own = part.parameters.map(({ name }) => [name, weights.get(prefix + name)!] as const)
    const outputs = await session.run({ ...given, ...Object.fromEntries(own) })
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, floats(tensor)]))
  }
  const { terms, gradients } = await blockwiseStep(
    blockwiseGraphs(config, process, { kind: 'variational' }),
    feeds,
    run,
  )
  expect(sessions.size).toBe(5)
  for (const session of sessions.values()) await session.close()

  for (const name of ['loss', 'mse', 'bound']) {
    expect(difference(floats(terms[name]).data, floats(expected[name]).data).relative).toBeLessThanOrEqual(
      1e-6,
    )
  }
  expect([...gradients.keys()].toSorted()).toEqual([...weights.keys()].toSorted())
  const largest = Math.max(
    ...[...gradients.values()].map(
      ({ data }) =>
        difference(
          data,
          data.map(() => 0),
        ).absolute,
    ),
  )
  const errors = [...gradients].map(
    ([key, { data }]) => difference(data, floats(expected[`grad.${key}`]).data).absolute,
  )
  expect(Math.max(...errors) / largest).toBeLessThanOrEqual(1e-6)
})
