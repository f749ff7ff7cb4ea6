/** Gradients of whole models against PyTorch's. */
import { input } from '../../graph/ir.ts'
import { Mul, ReduceMean } from '../../graph/ops.ts'
import { readT5Config, t5Encoder } from '../../models/t5.ts'
import { readVaeConfig } from '../../models/vae.ts'
import { gradientName, vaeStep, withGradients } from '../../training/gradient-graphs.ts'
import type { Component } from '../../weights/checkpoint.ts'
import { float32, int32, type SessionOptions, type Tensor } from '../session.ts'
import { eachBound, relativeBound } from './bounds.ts'
import type { References } from './references.ts'
import { openTrainingRuns, outputOf, readWeights, type Outputs } from './trained-weights.ts'

/** Of a loss and its parts, number by number. */
export const termBound = eachBound(1e-5)

/**
 * Every gradient under `prefix`, its difference by the larger of the tensor's own largest element and a thousandth of the largest
 * in any tensor.
 */
export async function compareGradients(run: References, prefix: string, outputs: Outputs): Promise<void> {
  const keys = run.namesUnder(prefix)
  const magnitudes = new Map<string, number>()
  for (const key of keys) magnitudes.set(key, await run.largest(prefix + key))
  const least = 1e-3 * Math.max(...magnitudes.values())
  for (const [key, largest] of magnitudes) {
    const bound = { ...relativeBound(1e-4), relativeTo: Math.max(largest, least) }
    await run.compare(prefix + key, outputOf(outputs, gradientName(key)), bound, `${prefix}*`)
  }
}

/** gradients.safetensors: of the text encoder and of the autoencoder. */
export async function compareGradientFile(
  run: References,
  components: { readonly textEncoder: Component; readonly vae: Component },
  options: SessionOptions,
): Promise<void> {
  await compareTextEncoder(run, components.textEncoder, options)
  await compareVae(run, components.vae, options)
}

async function compareTextEncoder(
  run: References,
  component: Component,
  options: SessionOptions,
): Promise<void> {
  const encoder = t5Encoder(readT5Config(component.config), 'train')
  const { hidden } = encoder.outputs
  if (hidden === undefined) throw new TypeError('the text encoder has no output')
  const cotangent = input('cotangent', 'float32', hidden.shape) // (B, T, D)
  const loss = ReduceMean(Mul(hidden, cotangent), [0, 1, 2], { keepdims: 0 })
  const inputs = [...encoder.inputs, cotangent]
  const graph = withGradients('t5_step', inputs, { loss }, { trainable: () => true })
  const ids = await run.input('text_encoder.ids')
  const training = await openTrainingRuns(graph, options)
  const outputs = await training.run(await readWeights(component), {
    input_ids: int32(Int32Array.from(ids), ...run.shape('text_encoder.ids')),
    mask: await whole(run, 'text_encoder.mask'),
    cotangent: await whole(run, 'text_encoder.cotangent'),
  })
  await training.close()
  await run.compare('text_encoder.loss', outputOf(outputs, 'loss'), termBound)
  await compareGradients(run, 'text_encoder.grad.', outputs)
}

/** As the reference has it. */
const weights = { klWeight: 1e-3, equivarianceWeight: 0 }

async function compareVae(run: References, component: Component, options: SessionOptions): Promise<void> {
  const training = await openTrainingRuns(vaeStep(readVaeConfig(component.config), weights), options)
  const outputs = await training.run(await readWeights(component), {
    image: await whole(run, 'vae.image'),
    noise: await whole(run, 'vae.noise'),
  })
  await training.close()
  for (const term of ['mse', 'kl', 'loss'])
    await run.compare(`vae.${term}`, outputOf(outputs, term), termBound)
  await compareGradients(run, 'vae.grad.', outputs)
}

/** A reference as it is. */
export const whole = async (run: References, name: string): Promise<Tensor<'float32'>> =>
  float32(await run.input(name), ...run.shape(name))
