import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { gridCoordinates, patchify, unpatchify } from '../../src/diffusion/patches.ts'
import { float32, int32, Session, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { dit, readDitConfig, type DitConfig } from '../../src/models/dit.ts'
import { parameterShapes } from '../../src/models/parameters.ts'
import { pixart, readPixArtConfig } from '../../src/models/pixart.ts'
import { fromDit } from '../../src/training/from-dit.ts'
import type { Tensors } from '../../src/training/tensors.ts'
import { openComponent } from '../../src/weights/checkpoint.ts'
import { readFloats } from '../../src/weights/safetensors.ts'
import { component, reference, variants, type Variant } from '../models/golden.ts'
import { difference, readFixture } from '../safetensors.ts'

const golden = (variant: Variant) => readFixture(`golden/${variant}/dit/golden.safetensors`)

async function openDit(variant: Variant): Promise<{ config: DitConfig; weights: Tensors }> {
  const path = fileURLToPath(new URL(`../fixtures/golden/${variant}/dit/transformer`, import.meta.url))
  const { config, tensors } = await openComponent(path)
  const weights = new Map<string, Float32Array>()
  for (const [key, location] of tensors) weights.set(key, await readFloats(location))
  return { config: readDitConfig(config), weights }
}

const [rows, side] = [2, 32]

type Feeds = Readonly<Record<string, Tensor>>

/** The golden latents as tokens, and where they lie. */
function latentFeeds(
  variant: Variant,
  { inChannels, patchSize, sampleSize, interpolationScale }: DitConfig,
): Feeds {
  const { data } = reference(golden(variant), 'latents')
  const count = (side / patchSize) ** 2
  const tokens = new Float32Array(data.length)
  const grid = gridCoordinates({
    height: side,
    width: side,
    patchSize,
    baseSize: sampleSize / patchSize,
    interpolationScale,
  })
  for (const slice of rowSlices(data.length)) {
    const layout = { channels: inChannels, height: side, width: side, patchSize }
    patchify(data.subarray(...slice), layout, tokens.subarray(...slice))
  }
  return {
    tokens: float32(tokens, rows, count, data.length / rows / count),
    coords: float32(Float32Array.from([...grid, ...grid]), rows, count, 2),
  }
}

const rowSlices = (length: number): readonly (readonly [number, number])[] =>
  Array.from({ length: rows }, (_, row) => [(row * length) / rows, ((row + 1) * length) / rows] as const)

/** The graph's output as pictures (rows, outC, side, side). */
async function run(
  graph: Graph,
  weights: Tensors,
  { outChannels, patchSize }: DitConfig,
  feeds: Feeds,
): Promise<Float32Array> {
  const session = await Session.open(graph, 'inputs', { provider: 'cpu', threads: 1 })
  const own = [...parameterShapes(graph)].map(
    ([key, shape]) => [key, float32(weights.get(key)!, ...shape)] as const,
  )
  const { output } = await session.run({ ...feeds, ...Object.fromEntries(own) })
  await session.close()
  if (output?.dtype !== 'float32') throw new Error('expected float32')
  const pictures = new Float32Array(output.data.length)
  for (const slice of rowSlices(pictures.length)) {
    const layout = { channels: outChannels, height: side, width: side, patchSize }
    unpatchify(output.data.subarray(...slice), layout, pictures.subarray(...slice))
  }
  return pictures
}

const everyRow = (value: number): Tensor<'float32'> => float32(new Float32Array(rows).fill(value), rows)
const absolute = (actual: Float32Array, variant: Variant, key: string): number =>
  difference(actual, reference(golden(variant), key).data).absolute

describe.each(variants)('%s', (variant) => {
  test('DiT computes what diffusers computes, with and without a class', async () => {
    const { config, weights } = await openDit(variant)
    const output = (timestep: number, label: number): Promise<Float32Array> =>
      run(dit(config, 'serve'), weights, config, {
        ...latentFeeds(variant, config),
        timestep: everyRow(timestep),
        class: int32(new Int32Array(rows).fill(label), rows),
      })
    const none = config.classes
    expect(absolute(await output(500, none), variant, 'output.no_class.t500')).toBeLessThanOrEqual(1e-4)
    expect(absolute(await output(20, none), variant, 'output.no_class.t20')).toBeLessThanOrEqual(1e-4)
    expect(absolute(await output(500, 7), variant, 'output.class7.t500')).toBeLessThanOrEqual(1e-4)
  })

  test('a PixArt-α made from it computes the same at timestep 500 without a class, whatever the text, and only there', async () => {
    const { config, weights } = await openDit(variant)
    // The golden PixArt of the same width and depth, with the latents' size of the DiT.
    const { captionWidth, microConditioned } = readPixArtConfig(
      (await component(variant, 'transformer')).config,
    )
    const graph = pixart({ ...config, captionWidth, microConditioned }, 'serve')
    const shapes = parameterShapes(graph)
    let seed = 1
    const random = (): number => Math.sin((seed += 12.9898)) * Math.SQRT2
    const made = fromDit({ config, dit: weights, shapes, random })
    expect(new Set(made.keys())).toEqual(new Set(shapes.keys()))
    const output = (timestep: number): Promise<Float32Array> =>
      run(graph, made, config, {
        ...latentFeeds(variant, config),
        timestep: everyRow(timestep),
        text: float32(Float32Array.from({ length: rows * 5 * captionWidth }, random), rows, 5, captionWidth),
        mask: float32(new Float32Array(rows * 5).fill(1), rows, 5),
        ...(microConditioned
          ? {
              resolution: float32(new Float32Array(rows * 2).fill(256), rows, 2),
              aspect_ratio: float32(new Float32Array(rows).fill(1), rows, 1),
            }
          : {}),
      })
    const at500 = await output(500)
    expect(absolute(at500, variant, 'output.no_class.t500')).toBeLessThanOrEqual(1e-4)
    expect(absolute(at500, variant, 'output.no_class.t20')).toBeGreaterThan(1e-2)
    expect(absolute(at500, variant, 'output.class7.t500')).toBeGreaterThan(1e-2)
    expect(absolute(await output(20), variant, 'output.no_class.t20')).toBeGreaterThan(1e-2)
  })
})

test('a DiT without one of the tensors, or with one of another size, is refused by its key', async () => {
  const { config, weights } = await openDit('tiny-512')
  const shapes = new Map([['transformer_blocks.0.attn1.to_q.weight', [32, 32]]])
  const make = (dit: Tensors) => () => fromDit({ config, dit, shapes, random: () => 0 })
  const without = (key: string): Tensors => new Map([...weights].filter(([name]) => name !== key))
  expect(make(weights)).not.toThrow()
  expect(make(without('proj_out_1.bias'))).toThrow(
    'proj_out_1.bias: expected 64 elements, got no such tensor',
  )
  expect(
    make(new Map([...weights, ['transformer_blocks.0.attn1.to_q.weight', new Float32Array(9)]])),
  ).toThrow('transformer_blocks.0.attn1.to_q.weight: expected 1024 elements, got 9')
})
