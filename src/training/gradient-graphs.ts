/**
 * One micro-step of training as a graph: a batch and the weights in, the loss and its gradients out. The weights are the graph's
 * parameters, to be given as inputs; gradients come as `grad.KEY`.
 *
 * Shapes: R rows, N tokens, P numbers a token; B pictures, C latent channels, h × w latents.
 */
import { gradients, lossSeed } from '../graph/gradient/gradients.ts'
import { inline } from '../graph/inline.ts'
import { dependencies, graph, input, scalar, type Graph, type Input, type Value } from '../graph/ir.ts'
import { Add, Exp, Mul } from '../graph/ops.ts'
import { pixart, type PixArtConfig } from '../models/pixart.ts'
import { vaeDecoder, vaeEncoder, type VaeConfig } from '../models/vae.ts'
import type { DiffusionProcess } from './diffusion-process.ts'
import { noiseLoss, vaeLoss, type NoiseLossOptions } from './losses.ts'

/** Which parameters are trained, by key. */
export type Trainable = (key: string) => boolean

const everything: Trainable = () => true

export const gradientName = (key: string): string => `grad.${key}`

/**
 * Inputs: those of `pixart`, its tokens being the noised ones, and `clean` and `noise` (R, N, P), the latents and the noise as
 * tokens. Outputs: loss (), mse (R), bound (R) where the variance is trained, and the gradients of the loss.
 */
export function transformerStep(
  config: PixArtConfig,
  process: DiffusionProcess,
  { trainable = everything, ...options }: NoiseLossOptions & { readonly trainable?: Trainable },
): Graph {
  const model = pixart(config, 'train')
  const tokens = named(model, 'tokens')
  const [clean, noise] = [input('clean', 'float32', tokens.shape), input('noise', 'float32', tokens.shape)]
  const output = outputOf(model, 'output')
  const { loss, mse, bound, detached } = noiseLoss(
    { output, clean, noise, noised: tokens, timestep: named(model, 'timestep') },
    process,
    options,
  )
  const terms = { loss, mse, ...(bound ? { bound } : {}) }
  return withGradients('pixart_step', [...model.inputs, clean, noise], terms, { trainable, detached })
}

/**
 * Inputs: image (B, 3, 8·h, 8·w) in −1 … 1 and noise (B, C, h, w), which samples the code. Outputs: loss, mse and kl, each (), and
 * the gradients of the loss.
 */
export function vaeStep(
  config: VaeConfig,
  { klWeight, trainable = everything }: { readonly klWeight: number; readonly trainable?: Trainable },
): Graph {
  const encoder = vaeEncoder(config, 'train')
  const image = named(encoder, 'image')
  const [mean, logvar] = [outputOf(encoder, 'mean'), outputOf(encoder, 'logvar')]
  const noise = input('noise', 'float32', mean.shape)
  const latents = Add(mean, Mul(Exp(Mul(logvar, scalar(0.5))), noise)) // (B, C, h, w)
  const { image: decoded } = inline(vaeDecoder(config, 'train'), { latents })
  if (decoded === undefined) throw new TypeError('the decoder has no output')
  const terms = vaeLoss({ decoded, image, mean, logvar }, klWeight)
  return withGradients('vae_step', [image, noise], { ...terms }, { trainable })
}

/** The graph of a loss and its terms together with the loss's gradients of the parameters that are trained. */
export function withGradients(
  name: string,
  inputs: readonly Input[],
  terms: { readonly loss: Value } & Readonly<Record<string, Value>>,
  { trainable, detached }: { readonly trainable: Trainable; readonly detached?: ReadonlySet<Value> },
): Graph {
  const { leaves } = dependencies([terms.loss])
  const trained = [...leaves]
    .filter((leaf) => leaf.kind === 'parameter')
    .filter(({ name }) => trainable(name))
  const derivatives = gradients([lossSeed(terms.loss)], trained, detached ? { detached } : {})
  const outputs = trained.map(({ name }, i): [string, Value] => [gradientName(name), derivatives[i]!])
  return graph(name, inputs, { ...terms, ...Object.fromEntries(outputs) })
}

function named({ name, inputs }: Graph, which: string): Input {
  const found = inputs.find((candidate) => candidate.name === which)
  if (found === undefined) throw new TypeError(`${name} has no input ${which}`)
  return found
}

function outputOf({ name, outputs }: Graph, which: string): Value {
  const found = outputs[which]
  if (found === undefined) throw new TypeError(`${name} has no output ${which}`)
  return found
}
