/**
 * One micro-step of training as a graph: a batch and the weights in, the loss and its gradients out. The weights are the graph's
 * parameters, to be given as inputs; gradients come as `grad.KEY`.
 *
 * Shapes: R rows, N tokens, P numbers a token; B pictures, C latent channels, h × w latents, T text tokens.
 */
import { gradients, lossSeed, type Seed } from '../graph/gradient/gradients.ts'
import { inline } from '../graph/inline.ts'
import { dependencies, graph, input, scalar, type Graph, type Input, type Value } from '../graph/ir.ts'
import { Add, Exp, Mul } from '../graph/ops.ts'
import { pixart, type PixArtConfig } from '../models/pixart.ts'
import { vaeDecoder, vaeEncoder, type VaeConfig } from '../models/vae.ts'
import type { DiffusionProcess } from './diffusion-process.ts'
import { halved, noiseLoss, vaeLoss, type NoiseLossOptions, type VaeWeights } from './losses.ts'

/** Which parameters are trained, by key. */
export type Trainable = (key: string) => boolean

const everything: Trainable = () => true

/** What the gradients are of: the loss, or the loss times `loss_scale` (), an input. */
export type Scaling = 'unscaled' | 'loss_scale'

export interface GradientsWanted {
  readonly trainable?: Trainable
  readonly scaling?: Scaling
}

const gradientPrefix = 'grad.'
export const gradientName = (key: string): string => gradientPrefix + key

/** @returns undefined of an output that is no gradient */
export const keyOfGradient = (name: string): string | undefined =>
  name.startsWith(gradientPrefix) ? name.slice(gradientPrefix.length) : undefined

/** A loss with its terms, and what they are computed from. */
export interface LossGraph {
  readonly name: string
  readonly inputs: readonly Input[]
  readonly terms: { readonly loss: Value } & Readonly<Record<string, Value>>
  /** Nothing is differentiated through these. */
  readonly detached?: ReadonlySet<Value>
}

/**
 * What predicts noise, and its loss.
 * @param model takes tokens (R, N, P), the noised ones, and timestep (R), and gives output (R, N, P | 2·P)
 * @returns its inputs with `clean` and `noise` (R, N, P), the latents and the noise as tokens; loss (), mse (R), and bound (R) where
 *   the variance is trained
 */
export function noiseLossOf(model: Graph, process: DiffusionProcess, options: NoiseLossOptions): LossGraph {
  const tokens = named(model, 'tokens')
  const [clean, noise] = [input('clean', 'float32', tokens.shape), input('noise', 'float32', tokens.shape)]
  const { loss, mse, bound, detached } = noiseLoss(
    { output: outputOf(model, 'output'), clean, noise, noised: tokens, timestep: named(model, 'timestep') },
    process,
    options,
  )
  const terms = { loss, mse, ...(bound ? { bound } : {}) }
  return { name: model.name, inputs: [...model.inputs, clean, noise], terms, detached }
}

/**
 * The autoencoder's. Inputs: image (B, 3, 8·h, 8·w) in −1 … 1 and noise (B, C, h, w), which samples the code. Terms: loss, mse,
 * kl and, where it has a weight, equivariance, each ().
 */
export function vaeLossOf(config: VaeConfig, weights: VaeWeights): LossGraph {
  const isHalved = weights.equivarianceWeight > 0
  const encoder = vaeEncoder(config, 'train', isHalved ? 2 : 1)
  const image = named(encoder, 'image')
  const [mean, logvar] = [outputOf(encoder, 'mean'), outputOf(encoder, 'logvar')]
  const noise = input('noise', 'float32', mean.shape)
  const latents = Add(mean, Mul(Exp(Mul(logvar, scalar(0.5))), noise)) // (B, C, h, w)
  const decoder = vaeDecoder(config, 'train')
  const decode = (code: Value): Value => {
    const { image: decoded } = inline(decoder, { latents: code })
    if (decoded === undefined) throw new TypeError('the decoder has no output')
    return decoded
  }
  const decodedHalf = isHalved ? decode(halved(latents)) : undefined
  const { equivariance, ...terms } = vaeLoss(
    { decoded: decode(latents), image, mean, logvar, decodedHalf },
    weights,
  )
  return {
    name: 'vae',
    inputs: [image, noise],
    terms: { ...terms, ...(equivariance ? { equivariance } : {}) },
  }
}

/** The loss and its terms alone. */
export const evaluationOf = ({ name, inputs, terms }: LossGraph): Graph =>
  graph(`${name}_loss`, inputs, terms)

/** The loss and its terms, together with its gradients of the parameters that are trained. */
export const stepOf = ({ name, inputs, terms, detached }: LossGraph, wanted: GradientsWanted = {}): Graph =>
  withGradients(`${name}_step`, inputs, terms, { ...wanted, ...(detached ? { detached } : {}) })

/** Inputs: those of `pixart`, `clean` and `noise`. Outputs: as `noiseLossOf`, and the gradients. */
export const transformerStep = (
  config: PixArtConfig,
  process: DiffusionProcess,
  { trainable, scaling, ...options }: NoiseLossOptions & GradientsWanted,
): Graph =>
  stepOf(noiseLossOf(pixart(config, 'train'), process, options), {
    ...(trainable ? { trainable } : {}),
    ...(scaling ? { scaling } : {}),
  })

/** Inputs and outputs as `vaeLossOf`, and the gradients. */
export const vaeStep = (
  config: VaeConfig,
  { klWeight, equivarianceWeight, ...wanted }: VaeWeights & GradientsWanted,
): Graph => stepOf(vaeLossOf(config, { klWeight, equivarianceWeight }), wanted)

/** The graph of a loss and its terms together with the loss's gradients of the parameters that are trained. */
export function withGradients(
  name: string,
  inputs: readonly Input[],
  terms: { readonly loss: Value } & Readonly<Record<string, Value>>,
  {
    trainable = everything,
    scaling = 'unscaled',
    detached,
  }: GradientsWanted & { readonly detached?: ReadonlySet<Value> },
): Graph {
  const { leaves } = dependencies([terms.loss])
  const trained = [...leaves]
    .filter((leaf) => leaf.kind === 'parameter')
    .filter(({ name }) => trainable(name))
  const { seed, given } = seedOf(terms.loss, scaling)
  const derivatives = gradients([seed], trained, detached ? { detached } : {})
  const outputs = trained.map(({ name }, i): [string, Value] => [gradientName(name), derivatives[i]!])
  return graph(name, [...inputs, ...given], { ...terms, ...Object.fromEntries(outputs) })
}

/** Where the backward pass begins, and what it takes that the forward pass does not. */
export function seedOf(
  loss: Value,
  scaling: Scaling,
): { readonly seed: Seed; readonly given: readonly Input[] } {
  if (scaling === 'unscaled') return { seed: lossSeed(loss), given: [] }
  const scale = input('loss_scale', 'float32', [])
  return { seed: { value: loss, cotangent: scale }, given: [scale] }
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
