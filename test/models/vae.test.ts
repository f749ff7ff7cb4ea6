import { describe, expect, test } from 'vitest'
import { float32 } from '../../src/engine/session.ts'
import { print } from '../../src/graph/print.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { readVaeConfig, vaeAliases, vaeDecoder, vaeDownsampling, vaeEncoder } from '../../src/models/vae.ts'
import { matchTensors } from '../../src/weights/match.ts'
import { cases, component, parity, open, reference, references } from './golden.ts'

describe('both ways equal diffusers', () => {
  test.each(cases)('decoder: $variant, $lowering', async ({ variant, lowering }) => {
    const vae = await component(variant, 'vae')
    const session = await open(vaeDecoder(readVaeConfig(vae.config), lowering), vae, { lowering })
    const golden = references(variant)
    const latents = reference(golden, 'vae.latents')
    const { image } = await session.run({ latents: float32(latents.data, ...latents.shape) })
    await session.close()
    expect(image?.dims).toEqual(reference(golden, 'vae.decoded').shape)
    expect(parity(image, reference(golden, 'vae.decoded'))).toBe('within bounds')
  })

  test.each(cases)('encoder: $variant, $lowering', async ({ variant, lowering }) => {
    const vae = await component(variant, 'vae')
    const session = await open(vaeEncoder(readVaeConfig(vae.config), lowering), vae, { lowering })
    const golden = references(variant)
    const image = reference(golden, 'vae.image')
    const { mean, logvar } = await session.run({ image: float32(image.data, ...image.shape) })
    await session.close()
    expect(parity(mean, reference(golden, 'vae.mean'))).toBe('within bounds')
    expect(parity(logvar, reference(golden, 'vae.logvar'))).toBe('within bounds')
  })
})

test('encoder and decoder together expect exactly the tensors of the checkpoint', async () => {
  const { config, tensors } = await component('tiny-512', 'vae')
  const vae = readVaeConfig(config)
  const expected = new Map([...tensors].map(([name, { shape }]) => [name, shape]))
  expect(new Map(parameterShapes(vaeEncoder(vae, 'serve'), vaeDecoder(vae, 'serve')))).toEqual(expected)
})

test('attention parameters are found under their names of before diffusers 0.18', async () => {
  const { config, tensors } = await component('tiny-512', 'vae')
  const earlier = [
    ['to_q', 'query'],
    ['to_k', 'key'],
    ['to_v', 'value'],
    ['to_out.0', 'proj_attn'],
  ] as const
  const renamed = new Map(
    [...tensors].map(([name, location]) => [
      earlier.reduce((each, [now, before]) => each.replace(`attentions.0.${now}.`, `attentions.0.${before}.`), name),
      location,
    ]),
  )
  expect(renamed.has('decoder.mid_block.attentions.0.proj_attn.weight')).toBe(true)
  const vae = readVaeConfig(config)
  const expected = parameterShapes(vaeEncoder(vae, 'serve'), vaeDecoder(vae, 'serve'))
  expect(new Map(matchTensors(expected, renamed, { aliases: vaeAliases }))).toEqual(new Map(tensors))
})

test('sizes halve with every block but the last', async () => {
  const config = readVaeConfig((await component('tiny-512', 'vae')).config)
  expect(vaeDownsampling(config)).toBe(8)
  const { outputs, inputs } = vaeEncoder(config, 'serve')
  expect(print({ name: 'types', inputs, outputs: {}, nodes: [], parameters: [], constants: [] })).toContain('(B, 3, 8*h, 8*w)')
  expect(outputs.mean?.shape.slice(2)).toEqual(vaeDecoder(config, 'serve').inputs[0]?.shape.slice(2))
})

test('what the model does not cover is refused by field', async () => {
  const { config } = await component('tiny-512', 'vae')
  expect(() => readVaeConfig({ ...config, down_block_types: ['AttnDownEncoderBlock2D'] })).toThrow(
    'vae config, down_block_types: expected nothing but DownEncoderBlock2D',
  )
  expect(() => readVaeConfig({ ...config, use_quant_conv: false })).toThrow('use_quant_conv: expected true, got false')
})

test.each(['serve', 'plain'] as const)('the graphs as text: %s', async (lowering) => {
  const config = { ...readVaeConfig((await component('tiny-512', 'vae')).config), channels: [8, 16] }
  await expect(print(vaeEncoder(config, lowering))).toMatchFileSnapshot(`dumps/vae-encoder-${lowering}.txt`)
  await expect(print(vaeDecoder(config, lowering))).toMatchFileSnapshot(`dumps/vae-decoder-${lowering}.txt`)
})
