import { describe, expect, test } from 'vitest'
import { float32, int32, Session, type Tensor } from '../../src/engine/session.ts'
import { input, type Graph } from '../../src/graph/ir.ts'
import { Mul, ReduceMean } from '../../src/graph/ops.ts'
import { readPixArtConfig } from '../../src/models/pixart.ts'
import { readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { readVaeConfig, vaeDecoder, vaeDownsampling, vaeEncoder } from '../../src/models/vae.ts'
import { transformerStep, vaeStep, withGradients } from '../../src/training/gradient-graphs.ts'
import { component, reference, variants } from '../models/golden.ts'
import {
  goldenWeights,
  gradientReferences,
  latentsOf,
  ownWeights,
  process,
  trainingReferences,
  transformerFeeds,
  worstGradient,
  type Feeds,
  type Tensors,
} from './golden-batch.ts'

async function run(graph: Graph, feeds: Feeds): Promise<Record<string, Tensor>> {
  const session = await Session.open(graph, 'inputs', { provider: 'cpu', threads: 1 })
  const outputs = await session.run(feeds)
  await session.close()
  return outputs
}

/** The largest relative error of a loss term. */
function termError(actual: Tensor | undefined, expected: Float32Array): number {
  if (actual?.dtype !== 'float32') return Number.NaN
  return expected.reduce(
    (most, value, i) => Math.max(most, Math.abs(value - actual.data[i]!) / Math.abs(value)),
    0,
  )
}

/** A gradient's error, as `worstGradient` measures it. */
const withinBounds = { error: expect.toSatisfy((error: number) => error <= 1e-4) as unknown }

const whole = (tensors: Tensors, key: string): Tensor<'float32'> =>
  float32(reference(tensors, key).data, ...reference(tensors, key).shape)

describe.each(variants)('the reference gradients: %s', (variant) => {
  test('of the transformer, with the loss of the paper', async () => {
    const config = readPixArtConfig((await component(variant, 'transformer')).config)
    const tensors = trainingReferences(variant)
    const graph = transformerStep(config, process, { kind: 'variational' })
    const weights = await goldenWeights(variant, 'transformer')
    const outputs = await run(graph, {
      ...transformerFeeds(tensors, config, latentsOf(tensors)),
      ...ownWeights(graph, weights),
    })
    expect(termError(outputs.mse, reference(tensors, 'term.mse').data)).toBeLessThanOrEqual(1e-5)
    expect(termError(outputs.bound, reference(tensors, 'term.vb').data)).toBeLessThanOrEqual(1e-5)
    const total = reference(tensors, 'term.loss').data
    const mean = total.reduce((sum, value) => sum + value, 0) / total.length
    expect(termError(outputs.loss, Float32Array.of(mean))).toBeLessThanOrEqual(1e-5)
    expect(worstGradient(outputs, tensors, 'grad.')).toMatchObject(withinBounds)
  })

  test('of the text encoder', async () => {
    const config = readT5Config((await component(variant, 'text_encoder')).config)
    const tensors = gradientReferences(variant)
    const encoder = t5Encoder(config, 'train')
    const { hidden } = encoder.outputs
    const cotangent = input('cotangent', 'float32', hidden!.shape)
    const loss = ReduceMean(Mul(hidden!, cotangent), [0, 1, 2], { keepdims: 0 })
    const graph = withGradients(
      't5_step',
      [...encoder.inputs, cotangent],
      { loss },
      { trainable: () => true },
    )
    const ids = reference(tensors, 'text_encoder.ids')
    const outputs = await run(graph, {
      input_ids: int32(Int32Array.from(ids.data), ...ids.shape),
      mask: whole(tensors, 'text_encoder.mask'),
      cotangent: whole(tensors, 'text_encoder.cotangent'),
      ...ownWeights(graph, await goldenWeights(variant, 'text_encoder')),
    })
    expect(termError(outputs.loss, reference(tensors, 'text_encoder.loss').data)).toBeLessThanOrEqual(1e-5)
    expect(worstGradient(outputs, tensors, 'text_encoder.grad.')).toMatchObject(withinBounds)
  })

  test('of the autoencoder, with reconstruction and divergence', async () => {
    const config = readVaeConfig((await component(variant, 'vae')).config)
    const tensors = gradientReferences(variant)
    const graph = vaeStep(config, { klWeight: 1e-3, equivarianceWeight: 0 })
    const outputs = await run(graph, {
      image: whole(tensors, 'vae.image'),
      noise: whole(tensors, 'vae.noise'),
      ...ownWeights(graph, await goldenWeights(variant, 'vae')),
    })
    const errors = ['mse', 'kl', 'loss'].map((term) =>
      termError(outputs[term], reference(tensors, `vae.${term}`).data),
    )
    expect(Math.max(...errors)).toBeLessThanOrEqual(1e-5)
    expect(worstGradient(outputs, tensors, 'vae.grad.')).toMatchObject(withinBounds)
  })
})

test('equivariance is the error of the picture at half its size, decoded of latents at half theirs', async () => {
  const config = readVaeConfig((await component('tiny-512', 'vae')).config)
  const weights = await goldenWeights('tiny-512', 'vae')
  const wave = (pace: number, ...dims: readonly number[]) =>
    float32(
      Float32Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => Math.sin(1 + i * pace)),
      ...dims,
    )
  const [height, width] = [4, 6]
  const scale = vaeDownsampling(config)
  const image = wave(0.07, 2, 3, height * scale, width * scale)
  const noise = wave(1.3, 2, config.latentChannels, height, width)
  const feedsOf = (graph: Graph) => ({ image, noise, ...ownWeights(graph, weights) })
  const graph = vaeStep(config, { klWeight: 1e-3, equivarianceWeight: 0.5 })
  const { loss, mse, kl, equivariance, ...gradients } = await run(graph, feedsOf(graph))
  const valueOf = (tensor: Tensor | undefined) => Number(tensor?.data[0])
  expect(valueOf(loss)).toBeCloseTo(valueOf(mse) + 1e-3 * valueOf(kl) + 0.5 * valueOf(equivariance), 5)

  // By the encoder and the decoder themselves.
  const encoder = vaeEncoder(config, 'serve')
  const { mean, logvar } = await run(encoder, { image, ...ownWeights(encoder, weights) })
  const latents = (mean!.data as Float32Array).map(
    (value, i) => value + Math.exp(0.5 * Number(logvar!.data[i])) * noise.data[i]!,
  )
  const small = (data: Float32Array, dims: readonly number[]) => {
    const [B = 1, C = 1, H = 1, W = 1] = dims
    const out = float32(new Float32Array((B * C * H * W) / 4), B, C, H / 2, W / 2)
    for (let plane = 0; plane < B * C; plane++)
      for (let y = 0; y < H; y++)
        for (let x = 0; x < W; x++)
          out.data[((plane * H) / 2) * (W / 2) + (y >> 1) * (W / 2) + (x >> 1)]! +=
            data[(plane * H + y) * W + x]! / 4
    return out
  }
  const decoder = vaeDecoder(config, 'serve')
  const decoded = await run(decoder, { latents: small(latents, mean!.dims), ...ownWeights(decoder, weights) })
  const half = small(image.data, image.dims).data
  const error = half.reduce((sum, value, i) => sum + (Number(decoded['image']!.data[i]) - value) ** 2, 0)
  expect(valueOf(equivariance) / (error / half.length)).toBeCloseTo(1, 4)

  // It has a part in the gradients of both halves of the autoencoder.
  const plain = vaeStep(config, { klWeight: 1e-3, equivarianceWeight: 0 })
  const without = await run(plain, feedsOf(plain))
  for (const name of ['grad.encoder.conv_in.weight', 'grad.decoder.conv_in.weight'])
    expect(gradients[name]!.data.some((value, i) => value !== without[name]!.data[i])).toBe(true)
})
