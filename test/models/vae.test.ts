import { describe, expect, test } from 'vitest'
import { float32, type Session, type Tensor } from '../../src/engine/session.ts'
import type { Graph, Parameter, Shape } from "../../src/graph/ir.ts"
import { print } from '../../src/graph/print.ts'
import type { LoweringName } from '../../src/models/lowering.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { readVaeConfig, vaeAliases, vaeDecoder, vaeDecoderParts, vaeDownsampling, vaeEncoder } from '../../src/models/vae.ts'
import { matchTensors } from '../../src/weights/match.ts'
import { cases, component, parity, open, reference, references, type Variant } from './golden.ts'

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

describe('the decoder in parts', () => {
  test.each(cases)(
    'equals diffusers, and the whole to the bit: $variant, $lowering',
    async ({ variant, lowering }) => {
      const vae = await component(variant, 'vae')
      const golden = references(variant)
      const { data, shape } = reference(golden, 'vae.latents')
      const latents = float32(data, ...shape)
      const whole = await open(vaeDecoder(readVaeConfig(vae.config), lowering), vae, { lowering })
      const { image: expected } = await whole.run({ latents })
      await whole.close()
      const parts = await openParts(variant, { lowering, threads: 2 })
      const image = await decode(parts, latents)
      await close(parts)
      expect(parity(image, reference(golden, 'vae.decoded'))).toBe('within bounds')
      expect(image).toEqual(expected)
    },
  )

  test.each([1, 2])('decodes a picture alike to the bit alone and with others, %i threads', async (threads) => {
    const parts = await openParts('tiny-512', { lowering: 'serve', threads })
    const [B, height, width] = [5, 20, 12]
    const size = 4 * height * width
    const latents = Float32Array.from({ length: B * size }, (_, i) => 4 * Math.sin(i * i)) // (B, 4, h, w)
    const together = await decode(parts, float32(latents, B, 4, height, width))
    for (let i = 0; i < B; i++) {
      const own = latents.slice(i * size, (i + 1) * size)
      const alone = await decode(parts, float32(own, 1, 4, height, width))
      const area = alone.data.length
      expect(alone.data).toEqual(together.data.slice(i * area, (i + 1) * area))
    }
    await close(parts)
  })

  test('has every parameter of the whole in one part, and none twice', async () => {
    const config = readVaeConfig((await component('tiny-512', 'vae')).config)
    const names = ({ parameters }: Graph): string[] => parameters.map(({ name }) => name)
    const parts = vaeDecoderParts(config, 'serve')
    expect(parts.flatMap(names)).toEqual(names(vaeDecoder(config, 'serve')))
  })

  test('costs as stated in a full-size decoder: no part more than a sixth', () => {
    const config = readVaeConfig({ block_out_channels: [128, 256, 512, 512], layers_per_block: 2 })
    // Pixels of each part's output for every latent one.
    const pixels = [1, 4, 4, 4, 16, 16, 16, 64, 64, 64]
    // Of the nine taps of a convolution that doubles four are left.
    const taps = ({ name, shape }: Parameter): number => elements(shape) * (name.includes('upsamplers') ? 4 / 9 : 1)
    const work = vaeDecoderParts(config, 'serve').map(
      ({ parameters }, i) =>
        (pixels[i] ?? 0) *
        parameters.reduce((sum, parameter) => (parameter.shape.length < 2 ? sum : sum + taps(parameter)), 0),
    )
    const whole = work.reduce((sum, part) => sum + part, 0)
    expect(work.map((part) => Math.round((100 * part) / whole))).toEqual([10, 2, 7, 15, 7, 12, 15, 7, 12, 15])
  })
})

const elements = (shape: Shape): number => shape.reduce<number>((product, size) => product * Number(size), 1)

async function openParts(
  variant: Variant,
  options: { readonly lowering: LoweringName; readonly threads: number },
): Promise<readonly Session[]> {
  const vae = await component(variant, 'vae')
  const graphs = vaeDecoderParts(readVaeConfig(vae.config), options.lowering)
  return Promise.all(graphs.map((graph) => open(graph, vae, options)))
}

async function decode(parts: readonly Session[], latents: Tensor<'float32'>): Promise<Tensor<'float32'>> {
  let tensors: Record<string, Tensor> = { latents }
  for (const part of parts) tensors = await part.run(tensors)
  const { image } = tensors
  if (image?.dtype !== 'float32') throw new TypeError('the last part must give a float32 image')
  return image
}

const close = (parts: readonly Session[]) => Promise.all(parts.map((part) => part.close()))

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
