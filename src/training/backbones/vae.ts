/** The autoencoder, trained on reconstruction and divergence. */
import { readVaeConfig, vaeAliases, vaeDecoder, vaeEncoder, type VaeConfig } from '../../models/vae.ts'
import { parameterShapes } from '../../models/parameters.ts'
import { matchTensors } from '../../weights/match.ts'
import { atPrecision } from '../../models/precision.ts'
import { evaluationOf, stepOf, vaeLossOf } from '../gradient-graphs.ts'
import type { MicroBatch } from '../data/micro-batch.ts'
import type { Tensor, TrainingHost } from '../host.ts'
import { inPieces, type Tensors } from '../tensors.ts'
import { randomVae } from '../initial-weights.ts'
import {
  inOrder,
  nothingFrozen,
  readAll,
  trainedTensors,
  type Backbone,
  type BackboneOptions,
} from './backbone.ts'

/** From random numbers in a job that begins with them, unless a stage has trained it before. */
export const startsRandom = ({ job, parts }: Pick<BackboneOptions, 'job' | 'parts'>): boolean =>
  job.start.kind === 'random' && parts.trained.vae === undefined

export function vaeBackbone(options: BackboneOptions): Backbone {
  const { job, stage, parts } = options
  const component = parts.components.vae
  const config = readVaeConfig(component.config)
  const loss = vaeLossOf(config, stage)
  const trained = trainedTensors('vae', evaluationOf(loss))
  const scaling = stage.precision === 'float16' ? 'loss_scale' : 'unscaled'
  const precise = { isMaster: () => true }
  return {
    trained,
    step: { kind: 'whole', graph: atPrecision(stepOf(loss, { scaling }), stage.precision, precise) },
    evaluation: atPrecision(evaluationOf(loss), stage.precision, precise),
    becomes: { vae: { kind: 'full', config: component.config } },
    initial: async () => {
      const shapes = parameterShapes(vaeEncoder(config, 'train'), vaeDecoder(config, 'train'))
      if (startsRandom(options)) return inOrder(await inPieces(randomVae(shapes, job.seed)), trained)
      const found = matchTensors(shapes, component.tensors, { aliases: vaeAliases, file: component.folder })
      return inOrder(await readAll(found), trained)
    },
    frozen: nothingFrozen,
    ...(startsRandom(options)
      ? {
          finish: async function* (average, pictures, host) {
            const scaling_factor = yield* measureScale(config, average, pictures, host)
            return { vae: { kind: 'full', config: { ...component.config, scaling_factor } } } as const
          },
        }
      : {}),
  }
}

/** Pictures that the scale is measured on, at least. */
const measuredPictures = 64

/**
 * One over the standard deviation of the latents, over all channels (Rombach et al. 2022, arXiv 2112.10752, appendix G): the
 * diffusion's noise is of deviation one.
 */
async function* measureScale(
  config: VaeConfig,
  weights: Tensors,
  pictures: AsyncIterable<MicroBatch>,
  host: TrainingHost,
): AsyncGenerator<void, number, void> {
  const graph = vaeEncoder(config, host.lowering)
  const session = await host.openSession(graph, { weights: new Map() })
  const fed = Object.fromEntries(
    [...parameterShapes(graph)].map(([key, dims]): [string, Tensor] => [
      key,
      { dtype: 'float32', data: weights.get(key)!, dims },
    ]),
  )
  let [count, seen, sum, squares] = [0, 0, 0, 0]
  try {
    for await (const { rows, feeds } of pictures) {
      const { mean, logvar } = await session.run({ image: feeds['image']!, ...fed })
      for (const [i, value] of mean!.data.entries()) {
        sum += value
        squares += value * value + Math.exp(logvar!.data[i]!)
      }
      count += mean!.data.length
      seen += rows
      yield
      if (seen >= measuredPictures) break
    }
  } finally {
    await session.close()
  }
  return 1 / Math.sqrt(squares / count - (sum / count) ** 2)
}
