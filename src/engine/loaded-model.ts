/**
 * A checkpoint in sessions: its three models ready to run, and the numbers that decide how they are fed.
 *
 * Legend: B prompts or pictures, T text tokens, D text width, C latent channels, h × w latent pixels, H × W pixels.
 */
import { bucketsFor } from '../diffusion/buckets.ts'
import { parseSchedulerConfig, type SchedulerConfig } from '../diffusion/scheduler-config.ts'
import { createSolver, schedulerNames, SolverError } from '../diffusion/solvers.ts'
import type { Graph } from '../graph/ir.ts'
import type { LoweringName } from '../models/lowering.ts'
import { parameterShapes } from '../models/parameters.ts'
import { pixart, pixartOptional, readPixArtConfig, type PixArtConfig } from '../models/pixart.ts'
import { readT5Config, t5Aliases, t5Encoder } from '../models/t5.ts'
import {
  readVaeConfig,
  vaeAliases,
  vaeDecoder,
  vaeDownsampling,
  vaeEncoder,
  type VaeConfig,
} from '../models/vae.ts'
import { openTokenizer, type Tokenizer } from '../text/tokenizer.ts'
import { tensorsFor, usableFloats } from '../weights/cast.ts'
import { openCheckpoint, type Component } from '../weights/checkpoint.ts'
import { matchTensors, type MatchOptions } from '../weights/match.ts'
import type { TensorLocation } from '../weights/safetensors.ts'
import type { ModelInfo } from './protocol.ts'
import { float32, int32, Session, type Provider, type Tensor } from './session.ts'

/** PixArt-α was trained on 120 text tokens, and its pipeline pads to them and cuts at them. */
export const maxPromptTokens = 120

/** The most steps that a request may ask for; a solver may take fewer. */
const maxSteps = 100

export interface LoadOptions {
  readonly provider: Provider
  readonly threads: number
  readonly cacheDir: string
  readonly lowering: LoweringName
  /** Hears of what takes long. */
  readonly onNote: (message: string) => void
}

interface Weighed {
  readonly weights: ReadonlyMap<string, TensorLocation>
}

export interface LoadedModel {
  readonly info: ModelInfo
  readonly pixart: PixArtConfig
  readonly vae: VaeConfig
  readonly schedulerConfig: SchedulerConfig
  readonly tokenizer: Tokenizer
  /** Pixels along one side of a latent. */
  readonly latentScale: number
  /** Time that the sessions of serving have spent in the library so far. */
  readonly computedMs: number
  /** (B, T) ids and mask → (B, T, D) */
  encodeText(ids: Int32Array, mask: Float32Array, batch: number): Promise<Float32Array>
  /** One call of the transformer; the graph's own inputs, its output written into `output`. */
  predictNoise(inputs: Readonly<Record<string, Tensor<'float32'>>>, output: Float32Array): Promise<void>
  /** Latents divided by the scaling factor (B, C, h, w) → (B, 3, H, W) */
  decode(latents: Float32Array, size: LatentSize): Promise<Float32Array<ArrayBuffer>>
  /** (B, 3, H, W) → mean and logarithm of the variance, (B, C, h, w) each, not multiplied by the scaling factor. */
  encodeImage(image: Float32Array, size: LatentSize): Promise<{ mean: Float32Array; logvar: Float32Array }>
  close(): Promise<void>
}

export interface LatentSize {
  readonly batch: number
  readonly height: number
  readonly width: number
}

/**
 * Opens a checkpoint in the diffusers layout and makes its sessions. Blocks the thread while weights are loaded.
 * @throws {WeightsError | ModelConfigError | SchedulerConfigError | TokenizerError | SessionError} naming what is wrong and where
 */
export async function loadModel(name: string, folder: string, options: LoadOptions): Promise<LoadedModel> {
  const { lowering } = options
  const checkpoint = await openCheckpoint(folder)
  const pixartConfig = readPixArtConfig(checkpoint.transformer.config)
  const t5Config = readT5Config(checkpoint.textEncoder.config)
  const vaeConfig = readVaeConfig(checkpoint.vae.config)
  const schedulerConfig = parseSchedulerConfig(checkpoint.scheduler.config)
  const latentScale = vaeDownsampling(vaeConfig)
  const tokenizer = await openTokenizer(checkpoint.tokenizer.folder)

  const textGraph = t5Encoder(t5Config, lowering)
  const transformerGraph = pixart(pixartConfig, lowering)
  const encoderGraph = vaeEncoder(vaeConfig, lowering)
  const decoderGraph = vaeDecoder(vaeConfig, lowering)

  const weigh = async (
    component: Component,
    graphs: readonly Graph[],
    match: MatchOptions,
  ): Promise<Weighed> => {
    const tensors = matchTensors(parameterShapes(...graphs), component.tensors, {
      ...match,
      file: component.folder,
    })
    const source = { name: component.name, fingerprint: component.fingerprint, tensors }
    // No provider computes in bf16 here, and fp16 graphs are not emitted yet: what is not fp32 is converted, once.
    const onCast = ({ file, sizeBytes }: { file: string; sizeBytes: number }) =>
      options.onNote(
        `converting ${component.name} of ${name} to float32, once: ${Math.ceil(sizeBytes / 2 ** 20)} MiB in ${file}`,
      )
    return { weights: await tensorsFor(source, usableFloats(['F32'], 'F32'), options.cacheDir, { onCast }) }
  }
  // The library must not fuse again what the plain lowering keeps apart.
  const fusion = lowering === 'plain' ? 'elementary' : 'all'
  const open = ({ weights }: Weighed, graph: Graph) => Session.open(graph, weights, { ...options, fusion })

  const textWeights = await weigh(checkpoint.textEncoder, [textGraph], { aliases: t5Aliases })
  const transformerWeights = await weigh(checkpoint.transformer, [transformerGraph], {
    optional: pixartOptional,
  })
  const vaeWeights = await weigh(checkpoint.vae, [encoderGraph, decoderGraph], { aliases: vaeAliases })
  const [text, transformer, decoder] = [
    await open(textWeights, textGraph),
    await open(transformerWeights, transformerGraph),
    await open(vaeWeights, decoderGraph),
  ]
  // Serving never encodes pictures, so that this session is made by the first who does.
  let encoder: Promise<Session> | undefined

  return {
    info: describe(name, checkpoint.version, pixartConfig.sampleSize * latentScale, schedulerConfig),
    pixart: pixartConfig,
    vae: vaeConfig,
    schedulerConfig,
    tokenizer,
    latentScale,
    get computedMs() {
      return text.computedMs + transformer.computedMs + decoder.computedMs
    },
    async encodeText(ids, mask, batch) {
      const length = ids.length / batch
      const { hidden } = await text.run({
        input_ids: int32(ids, batch, length),
        mask: float32(mask, batch, length),
      })
      return floats(hidden)
    },
    async predictNoise(inputs, output) {
      await transformer.run(inputs, { into: { output } })
    },
    async decode(latents, { batch, height, width }) {
      const image = new Float32Array(batch * vaeConfig.imageChannels * height * width * latentScale ** 2)
      await decoder.run(
        { latents: float32(latents, batch, vaeConfig.latentChannels, height, width) },
        { into: { image } },
      )
      return image
    },
    async encodeImage(image, { batch, height, width }) {
      encoder ??= open(vaeWeights, encoderGraph)
      const size = [height * latentScale, width * latentScale] as const
      const { mean, logvar } = await (
        await encoder
      ).run({ image: float32(image, batch, vaeConfig.imageChannels, ...size) })
      return { mean: floats(mean), logvar: floats(logvar) }
    },
    async close() {
      await Promise.all([text, transformer, decoder].map((session) => session.close()))
      await (await encoder)?.close()
    },
  }
}

function describe(name: string, version: string, baseSize: number, config: SchedulerConfig): ModelInfo {
  return {
    name,
    version,
    baseSize,
    buckets: bucketsFor(baseSize),
    defaultScheduler: config.scheduler,
    schedulers: schedulerNames.map((scheduler) => ({
      name: scheduler,
      maxSteps: mostSteps(scheduler, config),
    })),
    maxPromptTokens,
  }
}

/** Tried out, so that no second place knows a solver's limits. */
function mostSteps(scheduler: (typeof schedulerNames)[number], config: SchedulerConfig): number {
  for (let steps = maxSteps; steps > 0; steps--) {
    try {
      return createSolver(scheduler, config, steps).steps
    } catch (error) {
      if (!(error instanceof SolverError)) throw error
    }
  }
  return 0
}

function floats(tensor: Tensor | undefined): Float32Array {
  if (tensor?.dtype !== 'float32')
    throw new TypeError(`expected a float32 tensor, got ${tensor?.dtype ?? 'none'}`)
  return tensor.data
}
