/** The reference training batches as a training graph takes them, and the weights of the golden checkpoints. */
import { gridCoordinates, patchify } from '../../src/diffusion/patches.ts'
import { parseSchedulerConfig } from '../../src/diffusion/scheduler-config.ts'
import { float32, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import type { PixArtConfig } from '../../src/models/pixart.ts'
import { addNoise, diffusionProcess } from '../../src/training/diffusion-process.ts'
import { gradientName } from '../../src/training/gradient-graphs.ts'
import { readFloats } from '../../src/weights/safetensors.ts'
import { component, reference, type Variant } from '../models/golden.ts'
import { readFixture, type FixtureTensor } from '../safetensors.ts'

export type Tensors = ReadonlyMap<string, FixtureTensor>
export type Feeds = Readonly<Record<string, Tensor>>

/** PixArt-α's schedule. */
export const process = diffusionProcess(
  parseSchedulerConfig({
    _class_name: 'DDIMScheduler',
    clip_sample: false,
    beta_start: 1e-4,
    beta_end: 0.02,
    timestep_spacing: 'leading',
  }),
)

export const trainingReferences = (variant: Variant): Tensors =>
  readFixture(`golden/${variant}/training.safetensors`)
export const gradientReferences = (variant: Variant): Tensors =>
  readFixture(`golden/${variant}/gradients.safetensors`)

/** The weights of one component of the checkpoint in float32, in buffers of their own. */
export async function goldenWeights(variant: Variant, name: string): Promise<Map<string, Tensor<'float32'>>> {
  const { tensors } = await component(variant, name)
  const weights = new Map<string, Tensor<'float32'>>()
  for (const [key, location] of tensors)
    weights.set(key, float32(await readFloats(location), ...location.shape))
  return weights
}

/** Those weights that the graph has as parameters. */
export const ownWeights = ({ parameters }: Graph, weights: ReadonlyMap<string, Tensor>): Feeds =>
  Object.fromEntries(parameters.map(({ name }) => [name, weights.get(name)!]))

interface Latents {
  readonly x0: Float32Array
  readonly noise: Float32Array
  readonly t: Float32Array
}

/** The single training batch, or one of the five of the reference steps. */
export function latentsOf(tensors: Tensors, step?: number): Latents {
  const part = (key: string): Float32Array => {
    const { data } = reference(tensors, step === undefined ? key : `steps.${key}`)
    const size = data.length / 5
    return step === undefined ? data : data.subarray(step * size, (step + 1) * size)
  }
  return { x0: part('x0'), noise: part('noise'), t: part('t') }
}

/** Latents, noise and timesteps of a batch, with the conditions that all reference batches share. */
export function transformerFeeds(tensors: Tensors, config: PixArtConfig, { x0, noise, t }: Latents): Feeds {
  const [rows = 0, channels = 0, height = 0, width = 0] = reference(tensors, 'x0').shape
  const { patchSize, sampleSize, interpolationScale } = config
  const layout = { channels, height, width, patchSize }
  const numbers = x0.length / rows
  const tokens = (height * width) / patchSize ** 2
  const grid = gridCoordinates({
    height,
    width,
    patchSize,
    baseSize: sampleSize / patchSize,
    interpolationScale,
  })
  const coords = new Float32Array(rows * grid.length)
  const noised = new Float32Array(x0.length)
  const asTokens = (latents: Float32Array): Tensor<'float32'> => {
    const result = new Float32Array(latents.length)
    for (let row = 0; row < rows; row++) {
      const slice = [row * numbers, (row + 1) * numbers] as const
      patchify(latents.subarray(...slice), layout, result.subarray(...slice))
    }
    return float32(result, rows, tokens, numbers / tokens)
  }
  for (let row = 0; row < rows; row++) {
    const slice = [row * numbers, (row + 1) * numbers] as const
    addNoise(
      process,
      { clean: x0.subarray(...slice), noise: noise.subarray(...slice), timestep: t[row]! },
      noised.subarray(...slice),
    )
    coords.set(grid, row * grid.length)
  }
  const whole = (key: string): Tensor<'float32'> =>
    float32(reference(tensors, key).data, ...reference(tensors, key).shape)
  return {
    tokens: asTokens(noised),
    clean: asTokens(x0),
    noise: asTokens(noise),
    coords: float32(coords, rows, tokens, 2),
    timestep: float32(Float32Array.from(t), rows),
    text: whole('text'),
    mask: whole('mask'),
    ...(config.microConditioned
      ? { resolution: whole('resolution'), aspect_ratio: whole('aspect_ratio') }
      : {}),
  }
}

/**
 * The worst gradient's error: its largest difference from the reference, as a share of the larger of the tensor's own largest
 * element and 1e-3 of the largest in any tensor.
 * @throws {Error} when a gradient is missing or has no reference
 */
export function worstGradient(
  outputs: Readonly<Record<string, Tensor>>,
  tensors: Tensors,
  prefix: string,
): { readonly key: string; readonly error: number } {
  const expected = [...tensors.keys()]
    .filter((key) => key.startsWith(prefix))
    .map((key) => key.slice(prefix.length))
  const came = Object.keys(outputs).filter((name) => name.startsWith('grad.'))
  if (came.toSorted().join() !== expected.map(gradientName).toSorted().join()) {
    throw new Error(`expected gradients of ${expected.join(', ')}, got ${came.join(', ')}`)
  }
  const magnitudes = new Map(expected.map((key) => [key, largest(reference(tensors, prefix + key).data)]))
  const overall = Math.max(...magnitudes.values())
  return expected
    .map((key) => {
      const mine = outputs[gradientName(key)]
      const theirs = reference(tensors, prefix + key).data
      if (mine?.dtype !== 'float32' || mine.data.length !== theirs.length) return { key, error: Number.NaN }
      const off = theirs.reduce((most, value, i) => Math.max(most, Math.abs(value - mine.data[i]!)), 0)
      return { key, error: off / Math.max(magnitudes.get(key)!, 1e-3 * overall) }
    })
    .reduce((worst, one) => (one.error <= worst.error ? worst : one))
}

const largest = (data: Float32Array): number =>
  data.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
