import { describe, expect, test } from 'vitest'
import type { Graph } from '../../src/graph/ir.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { pixart, readPixArtConfig } from '../../src/models/pixart.ts'
import { preset, presetNames } from '../../src/models/presets.ts'
import { readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { readVaeConfig, vaeDecoder, vaeEncoder } from '../../src/models/vae.ts'

const parameters = (...graphs: readonly Graph[]): number =>
  [...parameterShapes(...graphs).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0)

describe.each(presetNames)('%s', (name) => {
  const { transformer, textEncoder, vae } = preset(name)

  test('has the parameters that its authors and its files count', () => {
    expect(parameters(pixart(readPixArtConfig(transformer), 'serve'))).toBe(
      name === 'pixart-xl-2-1024-ms' ? 611_349_152 : 610_856_096,
    )
    // The index of the published shards has 19,049,242,624 bytes of float32.
    expect(parameters(t5Encoder(readT5Config(textEncoder), 'serve'))).toBe(19_049_242_624 / 4)
    const config = readVaeConfig(vae)
    expect(parameters(vaeEncoder(config, 'serve'), vaeDecoder(config, 'serve'))).toBe(83_653_863)
  })
})

test('a depth changes the number of layers and nothing else', () => {
  const [whole, cut] = [preset('pixart-xl-2-512'), preset('pixart-xl-2-512', { depth: 2, textDepth: 3 })]
  expect(cut.transformer).toEqual({ ...whole.transformer, num_layers: 2 })
  expect(cut.textEncoder).toEqual({ ...whole.textEncoder, num_layers: 3, num_decoder_layers: 3 })
  expect(cut.vae).toEqual(whole.vae)
})
