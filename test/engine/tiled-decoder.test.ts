import fc from 'fast-check'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { float32, Session, type Tensor } from '../../src/engine/session.ts'
import { TiledDecoder } from '../../src/engine/tiled-decoder.ts'
import type { LoweringName } from '../../src/models/lowering.ts'
import { parameterDtypes } from '../../src/models/parameters.ts'
import { atPrecision } from '../../src/models/precision.ts'
import { readVaeConfig, vaeDecoderParts } from '../../src/models/vae.ts'
import { tensorsFor } from '../../src/weights/cast.ts'
import { cases, component, open, parity, reference, references, type Variant } from '../models/golden.ts'
import { difference } from '../safetensors.ts'

interface Decoders {
  readonly whole: readonly Session[]
  readonly tiled: TiledDecoder
}

async function openDecoders(variant: Variant, lowering: LoweringName): Promise<Decoders> {
  const vae = await component(variant, 'vae')
  const config = readVaeConfig(vae.config)
  const whole = await Promise.all(
    vaeDecoderParts(config, lowering).map((graph) => open(graph, vae, { lowering })),
  )
  const fusion = lowering === 'plain' ? 'elementary' : 'all'
  return {
    whole,
    tiled: new TiledDecoder(config, lowering, vae.tensors, { provider: 'cpu', threads: 2, fusion }),
  }
}

const close = ({ whole }: Decoders) => Promise.all(whole.map((session) => session.close()))

async function runWhole(
  { whole }: Decoders,
  part: number,
  hidden: Tensor<'float32'>,
): Promise<Tensor<'float32'>> {
  const [input] = whole[part]!.graph.inputs
  const [output] = Object.values(await whole[part]!.run({ [input!.name]: hidden }))
  if (output?.dtype !== 'float32') throw new TypeError('a part must give one float32 tensor')
  return output
}

test.each(cases)('equals diffusers: $variant, $lowering', async ({ variant, lowering }) => {
  const decoders = await openDecoders(variant, lowering)
  const golden = references(variant)
  const latents = reference(golden, 'vae.latents')
  let hidden = await runWhole(decoders, 0, float32(latents.data, ...latents.shape))
  for (let part = 1; part < decoders.whole.length; part++)
    hidden = await decoders.tiled.runPart(part, hidden, { strip: { rows: 5 } })
  await close(decoders)
  expect(hidden.dims).toEqual(reference(golden, 'vae.decoded').shape)
  expect(parity(hidden, reference(golden, 'vae.decoded'))).toBe('within bounds')
})

test('is within a hundredth of the reference in float16', async () => {
  const vae = await component('tiny-512', 'vae')
  const config = readVaeConfig(vae.config)
  const graphs = vaeDecoderParts(config, 'serve').map((graph) => atPrecision(graph, 'float16'))
  const cacheDir = await mkdtemp(join(tmpdir(), 'atelier-tiled-'))
  const weights = await tensorsFor(vae, parameterDtypes(...graphs), cacheDir)
  const options = { provider: 'cpu', threads: 2, precision: 'float16' } as const
  const tiled = new TiledDecoder(config, 'serve', weights, options)
  const golden = references('tiny-512')
  const latents = reference(golden, 'vae.latents')
  const first = await Session.open(graphs[0]!, weights, options)
  let { hidden_1: hidden } = await first.run({ latents: float32(latents.data, ...latents.shape) })
  await first.close()
  for (let part = 1; part < graphs.length; part++) {
    if (hidden?.dtype !== 'float32') throw new TypeError('a part must give one float32 tensor')
    hidden = await tiled.runPart(part, hidden, { strip: { rows: 5 } })
  }
  await rm(cacheDir, { recursive: true })
  if (hidden?.dtype !== 'float32') throw new TypeError('the image must be float32')
  expect(difference(hidden.data, reference(golden, 'vae.decoded').data).relative).toBeLessThan(1e-2)
})

describe('a part in strips', () => {
  let decoders: Decoders
  beforeAll(async () => (decoders = await openDecoders('tiny-512', 'serve')))
  afterAll(() => close(decoders))

  /** Blobs and edges, on top of a mean far from zero. */
  const structured = (part: number, batch: number, height: number, width: number): Tensor<'float32'> => {
    const channels = Number(decoders.whole[part]!.graph.inputs[0]!.shape[1])
    const data = new Float32Array(batch * channels * height * width)
    for (let i = 0; i < data.length; i++) {
      const [x, y] = [i % width, Math.floor(i / width) % height]
      const plane = Math.floor(i / width / height)
      const edge = x > width / 2 + (plane % 3) || y > height / 3 ? 2 : -1
      data[i] = 3 + edge + Math.sin(0.3 * x + 0.7 * y + plane) + Math.exp(-((x - 3) ** 2 + (y - 2) ** 2) / 8)
    }
    return float32(data, batch, channels, height, width)
  }

  test('equals the whole part at every size and height of strips, and leaves its input as it was', async () => {
    const cases = fc.record({
      part: fc.integer({ min: 1, max: decoders.whole.length - 1 }),
      batch: fc.integer({ min: 1, max: 2 }),
      height: fc.integer({ min: 1, max: 13 }),
      width: fc.integer({ min: 1, max: 13 }),
      rows: fc.integer({ min: 1, max: 14 }),
    })
    const holds = async ({
      part,
      batch,
      height,
      width,
      rows,
    }: typeof cases extends fc.Arbitrary<infer T> ? T : never) => {
      const hidden = structured(part, batch, height, width)
      const before = hidden.data.slice()
      const expected = await runWhole(decoders, part, hidden)
      const { dims, data } = await decoders.tiled.runPart(part, hidden, { strip: { rows } })
      expect(dims).toEqual(expected.dims)
      expect(difference(data, expected.data).absolute).toBeLessThanOrEqual(1e-5)
      expect(hidden.data).toEqual(before)
    }
    await fc.assert(fc.asyncProperty(cases, holds), { numRuns: 40, seed: 1 })
  })

  test('is the same to the bit for a picture alone and among others', async () => {
    const last = decoders.whole.length - 1
    const together = structured(last, 3, 9, 6)
    const length = together.data.length / 3
    const options = { strip: { rows: 4 } }
    const expected = await decoders.tiled.runPart(last, together, options)
    for (let b = 0; b < 3; b++) {
      const own = float32(together.data.slice(b * length, (b + 1) * length), 1, ...together.dims.slice(1))
      const alone = await decoders.tiled.runPart(last, own, options)
      const area = alone.data.length
      expect(alone.data).toEqual(expected.data.slice(b * area, (b + 1) * area))
    }
  })

  test('waits after every strip, of nearly equal heights', async () => {
    let strips = 0
    let waiting = 0
    const onStrip = async (): Promise<void> => {
      strips += 1
      waiting += 1
      await new Promise(setImmediate)
      waiting -= 1
      expect(waiting).toBe(0)
    }
    await decoders.tiled.runPart(1, structured(1, 2, 10, 4), { strip: { rows: 4 }, onStrip })
    expect(strips).toBe(2 * 3)
  })

  test('is not there for the first', async () => {
    await expect(decoders.tiled.runPart(0, structured(0, 1, 4, 4), { strip: { rows: 1 } })).rejects.toThrow(
      'expected a part between 1 and 9, got 0',
    )
  })
})
