import { describe, expect, test } from 'vitest'
import { gridCoordinates, patchify, unpatchify } from '../../src/diffusion/patches.ts'
import { float32, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { print } from '../../src/graph/print.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { pixart, pixartParts, readPixArtConfig, type PixArtConfig } from '../../src/models/pixart.ts'
import { cases, component, parity, open, reference, references, variants, type Variant } from './golden.ts'

type Feeds = Readonly<Record<string, Tensor<'float32'>>>

interface Case {
  readonly feeds: Feeds
  readonly rows: number
  readonly tokens: number
  readonly height: number
  readonly width: number
}

/** The golden call: non-square latents, three rows, timesteps and texts of their own. */
function goldenCase(variant: Variant, config: PixArtConfig): Case {
  const golden = references(variant)
  const latents = reference(golden, 'transformer.latents')
  const [rows = 0, channels = 0, height = 0, width = 0] = latents.shape
  const { patchSize, sampleSize, interpolationScale } = config
  const layout = { channels, height, width, patchSize }
  const tokens = (height / patchSize) * (width / patchSize)
  const numbers = latents.data.length / rows
  const patches = new Float32Array(latents.data.length)
  const coords = new Float32Array(rows * tokens * 2)
  const grid = gridCoordinates({ height, width, patchSize, baseSize: sampleSize / patchSize, interpolationScale })
  for (let row = 0; row < rows; row++) {
    const slice = [row * numbers, (row + 1) * numbers] as const
    patchify(latents.data.subarray(...slice), layout, patches.subarray(...slice))
    coords.set(grid, row * grid.length)
  }
  const hidden = reference(golden, 'text_encoder.hidden')
  const [, length = 0, captionWidth = 0] = hidden.shape
  const whole = (key: string): Tensor<'float32'> => float32(reference(golden, key).data, ...reference(golden, key).shape)
  return {
    rows,
    tokens,
    height,
    width,
    feeds: {
      tokens: float32(patches, rows, tokens, numbers / tokens),
      coords: float32(coords, rows, tokens, 2),
      timestep: whole('transformer.timestep'),
      text: float32(hidden.data.subarray(0, rows * length * captionWidth), rows, length, captionWidth),
      mask: float32(reference(golden, 'tokens.mask').data.subarray(0, rows * length), rows, length),
      ...(config.microConditioned
        ? { resolution: whole('transformer.resolution'), aspect_ratio: whole('transformer.aspect_ratio') }
        : {}),
    },
  }
}

function row(feeds: Feeds, index: number): Feeds {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { data, dims: [rows = 1, ...rest] }]) => {
      const size = data.length / rows
      return [name, float32(data.slice(index * size, (index + 1) * size), 1, ...rest)]
    }),
  )
}

const floats = (tensor: Tensor | undefined): Float32Array => {
  if (tensor?.dtype !== 'float32') throw new Error('expected float32')
  return tensor.data
}

describe('the output equals diffusers, learned variance included', () => {
  test.each(cases)('$variant, $lowering', async ({ variant, lowering }) => {
    const transformer = await component(variant, 'transformer')
    const config = readPixArtConfig(transformer.config)
    const session = await open(pixart(config, lowering), transformer, { lowering })
    const { feeds, rows, height, width } = goldenCase(variant, config)
    const output = floats((await session.run(feeds)).output)
    await session.close()

    const layout = { channels: config.outChannels, height, width, patchSize: config.patchSize }
    const numbers = output.length / rows
    const pictures = new Float32Array(output.length)
    for (let i = 0; i < rows; i++) {
      const slice = [i * numbers, (i + 1) * numbers] as const
      unpatchify(output.subarray(...slice), layout, pictures.subarray(...slice))
    }
    const expected = reference(references(variant), 'transformer.output')
    expect(parity(float32(pictures, ...expected.shape), expected)).toBe('within bounds')
  })
})

describe('a row computed alone is bit-identical to the same row in a batch', () => {
  test.each(variants.flatMap((variant) => [1, 2].map((threads) => ({ variant, threads }))))(
    '$variant, $threads threads',
    async ({ variant, threads }) => {
      const transformer = await component(variant, 'transformer')
      const config = readPixArtConfig(transformer.config)
      const session = await open(pixart(config, 'serve'), transformer, { lowering: 'serve', threads })
      const { feeds, rows } = goldenCase(variant, config)
      const together = floats((await session.run(feeds)).output)
      const size = together.length / rows
      for (let i = 0; i < rows; i++) {
        const alone = floats((await session.run(row(feeds, i))).output)
        expect(Buffer.from(alone.buffer, alone.byteOffset, alone.byteLength)).toEqual(
          Buffer.from(together.buffer, together.byteOffset + 4 * i * size, 4 * size),
        )
      }
      await session.close()
    },
  )
})

describe('in parts, what no step changes computed once', () => {
  test.each(cases)('$variant, $lowering: the output is that of the whole', async ({ variant, lowering }) => {
    const transformer = await component(variant, 'transformer')
    const config = readPixArtConfig(transformer.config)
    const graphs = pixartParts(config, lowering)
    const { feeds } = goldenCase(variant, config)
    const run = async (graph: Graph, all: Readonly<Record<string, Tensor>>) => {
      const session = await open(graph, transformer, { lowering })
      const own = Object.fromEntries(graph.inputs.map(({ name }) => [name, all[name]!]))
      const outputs = await session.run(own)
      await session.close()
      return outputs
    }
    const kept = { ...(await run(graphs.context, feeds)), ...(await run(graphs.timing, feeds)) }
    const inParts = floats((await run(graphs.step, { ...feeds, ...kept })).output)
    const whole = floats((await run(pixart(config, lowering), feeds)).output)
    const largest = whole.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const off = whole.reduce((most, value, i) => Math.max(most, Math.abs(value - inParts[i]!)), 0)
    expect(off / largest).toBeLessThanOrEqual(1e-6)
  })

  test.each(variants)('they expect together exactly the tensors of the whole: %s', async (variant) => {
    const config = readPixArtConfig((await component(variant, 'transformer')).config)
    const { context, timing, step } = pixartParts(config, 'serve')
    expect(parameterShapes(context, timing, step)).toEqual(parameterShapes(pixart(config, 'serve')))
    const all = [context, timing, step].flatMap(({ parameters }) => parameters.map(({ name }) => name))
    expect(new Set(all).size).toBe(all.length)
  })
})

test.each(variants)('the graph expects exactly the tensors of the checkpoint: %s', async (variant) => {
  const { config, tensors } = await component(variant, 'transformer')
  const expected = new Map([...tensors].map(([name, { shape }]) => [name, shape]))
  expect(new Map(parameterShapes(pixart(readPixArtConfig(config), 'serve')))).toEqual(expected)
})

describe('the configuration', () => {
  const read = async (changes: Readonly<Record<string, unknown>>): Promise<PixArtConfig> =>
    readPixArtConfig({ ...(await component('tiny-1024-ms', 'transformer')).config, ...changes })

  test('micro-conditioning is what the field says, else what the sample size says', async () => {
    expect((await read({})).microConditioned).toBe(true)
    expect((await read({ sample_size: 64 })).microConditioned).toBe(false)
    expect((await read({ use_additional_conditions: false })).microConditioned).toBe(false)
    expect((await read({ sample_size: 64, use_additional_conditions: true })).microConditioned).toBe(true)
  })
  test('the interpolation scale grows with the sample size unless it is given', async () => {
    expect((await read({})).interpolationScale).toBe(2)
    expect((await read({ sample_size: 32 })).interpolationScale).toBe(1)
    expect((await read({ interpolation_scale: 1.5 })).interpolationScale).toBe(1.5)
  })
  test('what the model does not cover is refused by field', async () => {
    await expect(read({ norm_type: 'ada_norm_zero' })).rejects.toThrow(
      'transformer config, norm_type: expected "ada_norm_single", got "ada_norm_zero"',
    )
    await expect(read({ norm_type: undefined })).rejects.toThrow('norm_type: expected "ada_norm_single", got null')
    await expect(read({ attention_head_dim: 14, cross_attention_dim: 42 })).rejects.toThrow(
      'attention_head_dim: expected a width of heads × head that 12 divides, got 14',
    )
    await expect(read({ cross_attention_dim: 40 })).rejects.toThrow('cross_attention_dim: expected 48, got 40')
  })
})

test.each(['serve', 'plain'] as const)('the graph as text: %s', async (lowering) => {
  const config = readPixArtConfig((await component('tiny-1024-ms', 'transformer')).config)
  await expect(print(pixart({ ...config, layers: 1 }, lowering))).toMatchFileSnapshot(`dumps/pixart-${lowering}.txt`)
})
