/** Models in float16, on the CPU provider, which rounds to it between operators and computes in float32. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runParity } from '../../src/engine/parity.ts'
import { int32, float32, Session } from '../../src/engine/session.ts'
import { parameterDtypes } from '../../src/models/parameters.ts'
import { atPrecision } from '../../src/models/precision.ts'
import { readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { tensorsFor } from '../../src/weights/cast.ts'
import { component, reference, references, variants } from '../models/golden.ts'
import { difference } from '../safetensors.ts'

let cacheDir: string
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-precision-'))
})
afterAll(() => rm(cacheDir, { recursive: true }))

test.each(variants)(
  '%s: every stage is within a hundredth of its reference, and pictures are above 35 dB',
  async (variant) => {
    const notes: string[] = []
    const golden = fileURLToPath(new URL(`../fixtures/golden/${variant}`, import.meta.url))
    const device = { name: 'cpu', device: { provider: 'cpu' }, cacheDir, precision: 'float16' } as const
    const { comparisons, uncompared } = await runParity(golden, device, {
      onNote: (note) => notes.push(note),
    })
    expect(comparisons.filter(({ isWithin }) => !isWithin)).toEqual([])
    expect(uncompared).toEqual([])
    expect(notes.map((note) => /converting (\w+) of .* to float16/.exec(note)?.[1])).toEqual([
      'text_encoder',
      'transformer',
      'vae',
    ])
  },
)

test('the plain lowering is within a hundredth as well', async () => {
  const encoder = await component('tiny-512', 'text_encoder')
  const graph = atPrecision(t5Encoder(readT5Config(encoder.config), 'plain'), 'float16')
  const weights = await tensorsFor(encoder, parameterDtypes(graph), cacheDir)
  const session = await Session.open(graph, weights, { provider: 'cpu', threads: 2, fusion: 'elementary' })
  const golden = references('tiny-512')
  const [ids, mask] = [reference(golden, 'tokens.ids'), reference(golden, 'tokens.mask')]
  const { hidden } = await session.run({
    input_ids: int32(Int32Array.from(ids.data), ...ids.shape),
    mask: float32(mask.data, ...mask.shape),
  })
  await session.close()
  if (hidden?.dtype !== 'float32') throw new Error('expected float32')
  expect(difference(hidden.data, reference(golden, 'text_encoder.hidden').data).relative).toBeLessThan(1e-2)
})
