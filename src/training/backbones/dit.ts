/** The class-conditional DiT that a PixArt-α begins with: the `pixel` stage on labels. */
import { dit, readDitConfig, type DitConfig } from '../../models/dit.ts'
import type { ConfigFields } from '../../models/config-reader.ts'
import { parameterShapes } from '../../models/parameters.ts'
import { atPrecision } from '../../models/precision.ts'
import type { Component } from '../../weights/checkpoint.ts'
import { matchTensors } from '../../weights/match.ts'
import { TrainingError } from '../errors.ts'
import { evaluationOf, noiseLossOf, stepOf } from '../gradient-graphs.ts'
import { randomTransformer } from '../initial-weights.ts'
import { inPieces } from '../tensors.ts'
import {
  inOrder,
  nothingFrozen,
  readAll,
  trainedTensors,
  type Backbone,
  type BackboneOptions,
} from './backbone.ts'

export const isDit = ({ config }: Pick<Component, 'config'>): boolean => config.norm_type === 'ada_norm_zero'

/** diffusers' configuration of a DiT that becomes a PixArt-α of this one. */
export function ditConfigOf(pixart: ConfigFields, classes: number): ConfigFields {
  const { use_additional_conditions: _, ...shared } = pixart
  return {
    ...shared,
    norm_type: 'ada_norm_zero',
    num_embeds_ada_norm: classes,
    cross_attention_dim: null,
    caption_channels: null,
  }
}

/** @param current the transformer as it is now; undefined: random */
export function ditBackbone(
  { job, stage, parts, process, classes }: BackboneOptions,
  current: Component | undefined,
): Backbone {
  if (classes.length === 0)
    throw new TrainingError(
      "condition 'class': expected pictures with labels, got none; use 'text' or 'none'",
    )
  if (current !== undefined && !isDit(current))
    throw new TrainingError("condition 'class': expected to start from random weights or a DiT, got PixArt-α")
  const json = current?.config ?? ditConfigOf(parts.base.transformer.config, classes.length)
  const config = readDitConfig(json)
  if (classes.length > config.classes)
    throw new TrainingError(
      `condition 'class': expected at most the DiT's ${config.classes} labels, got ${classes.length}`,
    )
  const graph = dit(config, 'train')
  const trained = trainedTensors('transformer', graph)
  const loss = noiseLossOf(graph, process, stage.loss)
  const scaling = stage.precision === 'float16' ? 'loss_scale' : 'unscaled'
  const precise = { isMaster: () => true }
  return {
    trained,
    step: { kind: 'whole', graph: atPrecision(stepOf(loss, { scaling }), stage.precision, precise) },
    evaluation: atPrecision(evaluationOf(loss), stage.precision, precise),
    becomes: { transformer: { kind: 'full', config: json } },
    paints: { kind: 'class', config, classes },
    noClass: { given: classes.length, taken: config.classes },
    initial: async () =>
      inOrder(await (current ? readDit(config, current) : randomDit(config, job.seed)), trained),
    frozen: nothingFrozen,
  }
}

const randomDit = (config: DitConfig, seed: number): Promise<Map<string, Float32Array>> =>
  inPieces(randomTransformer(parameterShapes(dit(config, 'train')), seed))

/** @throws {WeightsError} listing what does not fit */
export async function readDit(
  config: DitConfig,
  { tensors, folder }: Component,
): Promise<Map<string, Float32Array>> {
  return readAll(matchTensors(parameterShapes(dit(config, 'train')), tensors, { file: folder }))
}
