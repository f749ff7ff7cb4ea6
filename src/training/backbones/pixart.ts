/** PixArt-α, all of it, a LoRA beside it, or together with its text encoder. */
import { symbol } from '../../graph/dimension.ts'
import { inline } from '../../graph/inline.ts'
import { graph, input, type Graph } from '../../graph/ir.ts'
import { readDitConfig } from '../../models/dit.ts'
import { parameterShapes } from '../../models/parameters.ts'
import {
  pixart,
  pixartOptional,
  readPixArtConfig,
  type BackboneConfig,
  type PixArtConfig,
} from '../../models/pixart.ts'
import { atPrecision } from '../../models/precision.ts'
import { readT5Config, t5Aliases, t5Encoder } from '../../models/t5.ts'
import type { Component } from '../../weights/checkpoint.ts'
import { matchTensors } from '../../weights/match.ts'
import { blockwiseGraphs, type BlockwiseGraphs } from '../blockwise.ts'
import type { TrainedTensor } from '../checkpoint.ts'
import { TrainingError } from '../errors.ts'
import { fromDitPass } from '../from-dit.ts'
import { evaluationOf, noiseLossOf, stepOf } from '../gradient-graphs.ts'
import { normalNumbers, randomTransformer } from '../initial-weights.ts'
import { isLoraKey, loraShapes, planLora, startLora, withLora, type Adapter } from '../lora.ts'
import {
  frozenOf,
  inOrder,
  readAll,
  trainedTensors,
  type Backbone,
  type BackboneOptions,
} from './backbone.ts'
import { isDit, readDit } from './dit.ts'
import { inPieces } from '../tensors.ts'

/** @param current the transformer as it is now, a DiT or a PixArt-α; undefined: random */
export function pixartBackbone(options: BackboneOptions, current: Component | undefined): Backbone {
  const { job, stage, parts, process } = options
  const json = current === undefined || isDit(current) ? parts.base.transformer.config : current.config
  const config = readPixArtConfig(json)
  const model = pixart(config, 'train')
  const encoder = stage.trainTextEncoder ? textEncoderOf(options) : undefined
  const adapter = job.method.kind === 'lora' ? planLora(model, job.method) : undefined
  if (adapter && (current === undefined || isDit(current)))
    throw new TrainingError("method 'lora': expected to start from the base, got a transformer without text")
  if (adapter && encoder) throw new TrainingError("trainTextEncoder: expected method 'full', got 'lora'")

  const prefixes = Array.from({ length: config.layers }, (_, layer) => `transformer_blocks.${layer}.`)
  const adapt = (part: Graph): Graph => {
    const read = encoder ? withTextEncoder(part, encoder.graph) : part
    if (!adapter) return read
    return withLora(read, adapter, part.name === 'pixart_block' ? { prefixes } : {})
  }
  const trainable = adapter ? isLoraKey : () => true
  const scaling = stage.precision === 'float16' ? 'loss_scale' : 'unscaled'
  const loss = noiseLossOf(adapt(model), process, stage.loss)
  const trained = adapter
    ? adapterTensors(adapter)
    : new Map([
        ...trainedTensors('transformer', model),
        ...(encoder ? trainedTensors('text_encoder', encoder.graph) : []),
      ])
  const precise = (whole: Graph): Graph =>
    atPrecision(whole, stage.precision, { isMaster: (key) => trained.has(key) })
  // Block by block weights are taken in float32, the frozen ones as well.
  const fed = (part: Graph): Graph => atPrecision(part, stage.precision, { isMaster: () => true })
  const wanted = { trainable, scaling } as const
  return {
    trained,
    step:
      stage.recompute === 'blocks'
        ? {
            kind: 'blockwise',
            graphs: mapParts(blockwiseGraphs(config, process, { ...stage.loss, ...wanted, adapt }), fed),
          }
        : { kind: 'whole', graph: precise(stepOf(loss, wanted)) },
    evaluation: precise(evaluationOf(loss)),
    becomes: {
      transformer: { kind: adapter ? 'lora' : 'full', config: json },
      ...(encoder ? { text_encoder: { kind: 'full', config: encoder.component.config } } : {}),
    },
    paints: { kind: 'text', config, adapter, textEncoder: encoder ? 'trained' : 'frozen' },
    initial: async () => {
      if (adapter)
        return inOrder(parts.adapter ? await readAll(parts.adapter) : startLora(adapter, job.seed), trained)
      const own = await startOf(config, current, job.seed)
      return inOrder(new Map([...own, ...(encoder ? await encoder.read() : [])]), trained)
    },
    frozen: (whole) =>
      adapter && current ? frozenOf(current, whole, job.cacheDir) : Promise.resolve(new Map()),
  }
}

const adapterTensors = (adapter: Adapter): Map<string, TrainedTensor> =>
  new Map([...loraShapes(adapter)].map(([key, shape]) => [key, { component: 'transformer', shape }]))

function mapParts(graphs: BlockwiseGraphs, change: (part: Graph) => Graph) {
  const { layers, entrance, block, exit, exitStep, blockStep, entranceStep } = graphs
  return {
    layers,
    entrance: change(entrance),
    block: change(block),
    exit: change(exit),
    exitStep: change(exitStep),
    blockStep: change(blockStep),
    entranceStep: change(entranceStep),
  }
}

/** Weights of the whole transformer to begin with. */
async function startOf(
  config: PixArtConfig,
  current: Component | undefined,
  seed: number,
): Promise<ReadonlyMap<string, Float32Array>> {
  const shapes = parameterShapes(pixart(config, 'train'))
  if (current === undefined) return inPieces(randomTransformer(shapes, seed))
  if (!isDit(current)) {
    const options = { optional: pixartOptional, file: current.folder }
    return readAll(matchTensors(shapes, current.tensors, options))
  }
  const dit = readDitConfig(current.config)
  requireSameShape(config, dit)
  const options = { config: dit, dit: await readDit(dit, current), shapes }
  return inPieces(fromDitPass({ ...options, random: normalNumbers(`${seed}/from-dit`) }))
}

function requireSameShape(pixart: BackboneConfig, dit: BackboneConfig): void {
  const fields = [
    'heads',
    'headWidth',
    'layers',
    'patchSize',
    'inChannels',
    'outChannels',
    'attentionBias',
  ] as const
  const other = fields.filter((field) => pixart[field] !== dit[field])
  if (other.length === 0) return
  const of = (config: BackboneConfig): string => other.map((field) => `${field} ${config[field]}`).join(', ')
  throw new TrainingError(`the DiT to start from: expected the base's ${of(pixart)}, got ${of(dit)}`)
}

function textEncoderOf({ parts }: BackboneOptions) {
  const component = parts.components.text_encoder
  const encoder = t5Encoder(readT5Config(component.config), 'train')
  return {
    component,
    graph: encoder,
    read: () =>
      readAll(
        matchTensors(parameterShapes(encoder), component.tensors, {
          aliases: t5Aliases,
          file: component.folder,
        }),
      ),
  }
}

/** The graph with `ids` int32 (R, T) in the place of `text`, if it reads any. */
function withTextEncoder(part: Graph, encoder: Graph): Graph {
  if (!part.inputs.some(({ name }) => name === 'text')) return part
  const shape = [symbol('R'), symbol('T')]
  const ids = input('ids', 'int32', shape)
  const itsMask = part.inputs.find(({ name }) => name === 'mask')
  const mask = itsMask ?? input('mask', 'float32', shape)
  const { hidden } = inline(encoder, { input_ids: ids, mask })
  const others = part.inputs.filter(({ name }) => name !== 'text')
  const outputs = inline(part, { ...Object.fromEntries(others.map((one) => [one.name, one])), text: hidden! })
  return graph(part.name, [...others, ids, ...(itsMask ? [] : [mask])], outputs)
}
