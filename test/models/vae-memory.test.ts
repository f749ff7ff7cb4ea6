import { expect, test } from 'vitest'
import { decoderMemory } from '../../src/models/vae-memory.ts'
import { readVaeConfig, vaeDecoderParts } from '../../src/models/vae.ts'

const MiB = 2 ** 20
const config = readVaeConfig({ block_out_channels: [128, 256, 512, 512], layers_per_block: 2 })

test('the memory of each part of a full-size decoder at 512 × 512 pixels', () => {
  const parts = decoderMemory(config, { batch: 1, height: 64, width: 64 })
  expect(parts).toHaveLength(vaeDecoderParts(config, 'serve').length)
  const column = (bytes: (part: (typeof parts)[number]) => number | undefined) =>
    parts.map((part) => (bytes(part) ?? 0) / MiB)
  expect(column(({ inputBytes }) => inputBytes)).toEqual([0.0625, 8, 32, 32, 32, 128, 64, 64, 256, 128])
  expect(column(({ outputBytes }) => outputBytes)).toEqual([8, 32, 32, 32, 128, 64, 64, 256, 128, 3])
  // Measured: 136, 112, 64, 96, 256, 256, 192, 512, 512, 384.
  expect(column(({ wholeBytes }) => wholeBytes)).toEqual([64, 64, 64, 96, 256, 256, 192, 512, 512, 384])
  // Measured, with 64 MiB of workspace and what the collector had not freed: 107, 112, …, 172, 137, …, 334, 240, 367.
  expect(column(({ stripsBytes }) => stripsBytes)).toEqual([0, 32, 32, 64, 128, 64, 128, 256, 128, 259])
})

test('memory grows with pictures and pixels alike', () => {
  const one = decoderMemory(config, { batch: 1, height: 32, width: 48 })
  const four = decoderMemory(config, { batch: 2, height: 32, width: 96 })
  expect(four.map(({ wholeBytes }) => wholeBytes)).toEqual(one.map(({ wholeBytes }) => 4 * wholeBytes))
})
