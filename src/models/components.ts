/** A checkpoint's three models as they are served: their graphs, and the weights that these read, known from headers alone. */
import type { Graph } from '../graph/ir.ts'
import { ModelConfigError } from './config-reader.ts'
import type { LoweringName } from './lowering.ts'
import { parameterDtypes, parameterShapes } from './parameters.ts'
import { pixartOptional, pixartParts, readPixArtConfig, type PixArtConfig } from './pixart.ts'
import { atPrecision, type Precision } from './precision.ts'
import { readT5Config, t5Aliases, t5Encoder, type T5Config } from './t5.ts'
import { readVaeConfig, vaeAliases, vaeDecoderParts, vaeEncoder, type VaeConfig } from './vae.ts'
import { weightStorage } from './weight-storage.ts'
import type { DtypePolicy } from '../weights/cast.ts'
import type { Component } from '../weights/checkpoint.ts'
import { bytesPerElement } from '../weights/dtypes.ts'
import { matchTensors, type MatchOptions } from '../weights/match.ts'
import type { TensorLocation } from '../weights/safetensors.ts'

/** PixArt-α was trained on 120 text tokens, and its pipeline pads to them and cuts at them. */
export const maxPromptTokens = 120

/** One set of weights. */
export interface ServedWeights {
  readonly name: string
  readonly fingerprint: string
  readonly tensors: ReadonlyMap<string, TensorLocation>
  /** The types that the graphs read them in. */
  readonly dtypes: DtypePolicy
}

export interface ServeOptions {
  readonly lowering: LoweringName
  readonly precision: Precision
}

/** Each `open…` throws {ModelConfigError | WeightsError}: a field that is wrong, or every tensor that is. */
export function openTextEncoder(
  component: Component,
  { lowering, precision }: ServeOptions,
): { readonly config: T5Config; readonly graphs: readonly [Graph]; readonly weights: ServedWeights } {
  const config = readT5Config(component.config)
  const encoder = t5Encoder(config, lowering, weightStorage(component, lowering))
  const graphs = [atPrecision(encoder, precision)] as const
  return { config, graphs, weights: served(component, graphs, { aliases: t5Aliases }) }
}

export function openTransformer(
  component: Component,
  { lowering, precision }: ServeOptions,
): {
  readonly config: PixArtConfig
  readonly graphs: readonly [context: Graph, timing: Graph, step: Graph]
  readonly weights: ServedWeights
} {
  const config = readPixArtConfig(component.config)
  const parts = pixartParts(config, lowering, weightStorage(component, lowering))
  const precise = (graph: Graph): Graph => atPrecision(graph, precision)
  const graphs = [precise(parts.context), precise(parts.timing), precise(parts.step)] as const
  return { config, graphs, weights: served(component, graphs, { optional: pixartOptional }) }
}

/** The decoder's graphs; the encoder's is apart, since serving never encodes pictures. */
export function openVae(
  component: Component,
  { lowering, precision }: ServeOptions,
): {
  readonly config: VaeConfig
  readonly graphs: readonly Graph[]
  readonly encoder: Graph
  readonly weights: ServedWeights
} {
  const config = readVaeConfig(component.config)
  const graphs = vaeDecoderParts(config, lowering).map((graph) => atPrecision(graph, precision))
  const encoder = atPrecision(vaeEncoder(config, lowering), precision)
  return {
    config,
    graphs,
    encoder,
    weights: served(component, [encoder, ...graphs], { aliases: vaeAliases }),
  }
}

function served(
  { name, fingerprint, tensors, folder }: Component,
  graphs: readonly Graph[],
  options: MatchOptions,
): ServedWeights {
  return {
    name,
    fingerprint,
    tensors: matchTensors(parameterShapes(...graphs), tensors, { ...options, file: folder }),
    dtypes: parameterDtypes(...graphs),
  }
}

interface Configs {
  readonly text: { readonly config: T5Config }
  readonly transformer: { readonly config: PixArtConfig }
  readonly vae: { readonly config: VaeConfig }
}

/** Where the models' configurations, as far as they are known, do not fit each other: a line each. */
export function disagreements({
  text,
  transformer,
  vae,
}: { readonly [K in keyof Configs]: Configs[K] | undefined }): readonly string[] {
  const fitting = (field: string, came: number | undefined, other: string, expected: number | undefined) =>
    came === undefined || expected === undefined || came === expected
      ? []
      : [`transformer config, ${field}: expected ${expected}, which is ${other}, got ${came}`]
  const { captionWidth, inChannels } = transformer?.config ?? {}
  return [
    ...fitting('caption_channels', captionWidth, "the text encoder's d_model", text?.config.width),
    ...fitting('in_channels', inChannels, "the VAE's latent_channels", vae?.config.latentChannels),
  ]
}

/** @throws {ModelConfigError} where the models' configurations do not fit each other */
export function requireAgreement(models: Configs): void {
  const found = disagreements(models)
  if (found.length > 0) throw new ModelConfigError(found.join('; '))
}

/** What a tensor takes in the type that it is computed in. */
export const servedBytes = (
  { dtypes }: Pick<ServedWeights, 'dtypes'>,
  name: string,
  { dtype, length }: TensorLocation,
): number => (length / bytesPerElement[dtype]) * bytesPerElement[dtypes(name, dtype)]

/** The same of all tensors. */
export const weightBytes = (weights: ServedWeights): number =>
  [...weights.tensors].reduce((sum, [name, location]) => sum + servedBytes(weights, name, location), 0)
