import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { measure } from '../../../bench/model/measure.ts'
import { writeQuantisedCheckpoint } from '../../../src/models/quantised-checkpoint.ts'
import { openCheckpoint } from '../../../src/weights/checkpoint.ts'

const checkpoint = fileURLToPath(new URL('../../fixtures/golden/tiny-512/checkpoint', import.meta.url))
const task = {
  component: 'text encoder',
  checkpoint,
  published: { textDepth: 24, depth: 28 },
  large: false,
  provider: 'cpu',
  threads: 1,
} as const

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atelier-bench-test-'))
})
afterAll(() => rm(folder, { recursive: true }))

test('a component is timed beside its matrix products, and its operations grow with the depth', async () => {
  const { loadMs, calls } = await measure(task)
  expect(loadMs).toBeGreaterThan(0)
  expect(calls.map(({ name }) => name)).toEqual(['a prompt', '2 prompts'])
  for (const { ms, floorMs, operations, wholeOperations } of calls) {
    expect(ms).toHaveLength(floorMs.length)
    expect(Math.min(...ms, ...floorMs)).toBeGreaterThan(0)
    // The golden encoder has two layers, and no products outside of them.
    expect(wholeOperations / operations).toBe(24 / 2)
  }
})

test('weights in blocks have no floor and as many operations', async () => {
  const quantised = join(folder, 'int4')
  const format = { bits: 4, blockSize: 32 } as const
  await writeQuantisedCheckpoint(await openCheckpoint(checkpoint), quantised, { text_encoder: format })
  const [inFull, inBlocks] = [await measure(task), await measure({ ...task, checkpoint: quantised })]
  expect(inBlocks.calls.map(({ floorMs }) => floorMs.length)).toEqual([0, 0])
  expect(inBlocks.calls.map(({ operations }) => operations)).toEqual(
    inFull.calls.map(({ operations }) => operations),
  )
})

test('a profile tells what the operators of each call took', async () => {
  const { calls } = await measure({ ...task, profile: join(folder, 'profiles') })
  for (const { ms, profile } of calls) {
    expect(ms).toEqual([])
    expect(profile?.byOperator.get('Gemm')).toBeGreaterThan(0)
    expect(profile?.byLayer.get('encoder.block.*.layer.*.SelfAttention.o Gemm')).toBeGreaterThan(0)
  }
})
