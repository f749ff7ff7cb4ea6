/**
 * A checkpoint on a device: what is known of it from its headers alone, and its sessions, which come and go with the memory.
 *
 * Legend: B prompts or pictures, T text tokens, D text width, C latent channels, h × w latent pixels, H × W pixels.
 */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { bucketsFor } from '../diffusion/buckets.ts'
import { createNoiseSchedule, type NoiseSchedule } from '../diffusion/noise-schedule.ts'
import { parseSchedulerConfig, type SchedulerConfig } from '../diffusion/scheduler-config.ts'
import { createSolver, schedulerNames, SolverError, type SchedulerName } from '../diffusion/solvers.ts'
import { evaluate, symbolName } from '../graph/dimension.ts'
import type { Graph } from '../graph/ir.ts'
import type { LoweringName } from '../models/lowering.ts'
import type { PixArtConfig } from '../models/pixart.ts'
import type { Precision } from '../models/precision.ts'
import { vaeDownsampling, type VaeConfig } from '../models/vae.ts'
import { openTokenizer, type Tokenizer, type Tokens } from '../text/tokenizer.ts'
import { tensorsFor } from '../weights/cast.ts'
import { openCheckpoint } from '../weights/checkpoint.ts'
import { modificationDates } from '../weights/files.ts'
import { fingerprint } from '../weights/fingerprint.ts'
import type { TensorLocation } from '../weights/safetensors.ts'
import { mebibytes } from '../weights/units.ts'
import {
  maxPromptTokens,
  openTextEncoder,
  openTransformer,
  openVae,
  requireAgreement,
  weightBytes,
  type ServedWeights,
} from '../models/components.ts'
import type { Timing } from './denoising.ts'
import { keptTensor } from './kept-tensor.ts'
import { denoiseBytesPerRowToken, machineBytes, memoryInput } from './memory-needs.ts'
import { planMemory, type MemoryPlan } from './memory-plan.ts'
import type { ModelInfo } from './protocol.ts'
import {
  float32,
  int32,
  libraryVersion,
  Session,
  type Provider,
  type SessionOptions,
  type Tensor,
} from './session.ts'
import { SharedSessions } from './shared-sessions.ts'
import { TiledDecoder } from './tiled-decoder.ts'
import type { ModelMemory } from './training-protocol.ts'

/** Raised when the same text would be encoded to other values. */
const keptTextVersion = '1'

/** The most steps that a request may ask for; a solver may take fewer. */
const maxSteps = 100

export interface ModelOptions {
  readonly provider: Provider
  readonly deviceIndex?: number | undefined
  /** 0 takes one per core. */
  readonly threads: number
  readonly cacheDir: string
  readonly lowering: LoweringName
  /** What it computes in; float32 by default. */
  readonly precision?: Precision
  /** What the device's process may take in memory; undefined: what there is. */
  readonly memoryLimitBytes?: number | undefined
  /** Hears of what takes long. */
  readonly onNote: (message: string) => void
  /** Where the device's models have sessions in common; without it this one has its own. */
  readonly shared?: SharedSessions | undefined
}

export interface LatentSize {
  readonly batch: number
  readonly height: number
  readonly width: number
}

/** The stages of a picture that run a component of their own each: the text encoder, the transformer, the decoder. */
export const stages = ['encode', 'denoise', 'decode'] as const
export type Stage = (typeof stages)[number]

/** The open sessions of each stage that is ready, in the order of its graphs, and what they are shared by. */
type Sessions = Map<Stage, { readonly sessions: readonly Session[]; readonly key: string }>

type Description = Omit<ModelInfo, 'state'>

export class Model {
  readonly description: Description
  readonly plan: MemoryPlan
  readonly pixart: PixArtConfig
  readonly vae: VaeConfig
  readonly schedulerConfig: SchedulerConfig
  readonly schedule: NoiseSchedule
  readonly tokenizer: Tokenizer
  /** Pixels along one side of a latent. */
  readonly latentScale: number
  readonly #options: ModelOptions
  readonly #graphs: {
    readonly encode: readonly [Graph]
    readonly denoise: readonly [context: Graph, timing: Graph, step: Graph]
    readonly decode: readonly Graph[]
    readonly encoder: Graph
  }
  readonly #components: Readonly<Record<Stage, ServedWeights>>
  readonly #sessions: Sessions = new Map()
  readonly #shared: SharedSessions
  /** Serving never encodes pictures, so that this session is made by the first who does. */
  #encoder: Promise<Session> | undefined
  #tiled: TiledDecoder | undefined
  #computedBeforeMs = 0

  /**
   * Opens a checkpoint in the diffusers layout and checks all of it that can be checked without reading weights.
   * @throws {WeightsError | ModelConfigError | SchedulerConfigError | TokenizerError} naming what is wrong and where
   */
  static async open(name: string, folder: string, options: ModelOptions): Promise<Model> {
    const checkpoint = await openCheckpoint(folder)
    const tokenizer = await openTokenizer(checkpoint.tokenizer.folder)
    return new Model(name, checkpoint, tokenizer, options)
  }

  private constructor(
    name: string,
    checkpoint: Awaited<ReturnType<typeof openCheckpoint>>,
    tokenizer: Tokenizer,
    options: ModelOptions,
  ) {
    const { lowering, precision = 'float32', memoryLimitBytes } = options
    const serve = { lowering, precision }
    const textEncoder = openTextEncoder(checkpoint.textEncoder, serve)
    const transformer = openTransformer(checkpoint.transformer, serve)
    const vae = openVae(checkpoint.vae, serve)
    requireAgreement({ text: textEncoder, transformer, vae })
    this.#options = options
    this.#shared = options.shared ?? new SharedSessions()
    this.plan = planMemory(memoryInput({ text: textEncoder, transformer, vae }, memoryLimitBytes))
    this.tokenizer = tokenizer
    this.pixart = transformer.config
    this.vae = vae.config
    this.schedulerConfig = parseSchedulerConfig(checkpoint.scheduler.config)
    this.schedule = createNoiseSchedule(this.schedulerConfig)
    this.latentScale = vaeDownsampling(this.vae)
    this.#graphs = {
      encode: textEncoder.graphs,
      denoise: transformer.graphs,
      decode: vae.graphs,
      encoder: vae.encoder,
    }
    this.#components = { encode: textEncoder.weights, denoise: transformer.weights, decode: vae.weights }
    const baseSize = this.pixart.sampleSize * this.latentScale
    this.description = {
      name,
      version: checkpoint.version,
      baseSize,
      buckets: bucketsFor(baseSize),
      defaultScheduler: this.schedulerConfig.scheduler,
      schedulers: schedulerNames.map((scheduler) => ({
        name: scheduler,
        maxSteps: mostSteps(scheduler, this.schedulerConfig),
      })),
      maxPromptTokens,
      latentScale: this.latentScale,
      patchSize: this.pixart.patchSize,
      sizeBytes: Object.values(this.#components).reduce((sum, component) => sum + weightBytes(component), 0),
    }
  }

  get info(): ModelInfo {
    return { ...this.description, state: this.isLoaded ? 'loaded' : 'unloaded' }
  }

  get memory(): ModelMemory {
    const { encode, denoise, decode } = this.#components
    return {
      weightBytes: {
        textEncoder: weightBytes(encode),
        transformer: weightBytes(denoise),
        vae: weightBytes(decode),
      },
      bytesPerRowToken: denoiseBytesPerRowToken(this.pixart),
      limitBytes: this.plan.limitBytes ?? machineBytes(),
    }
  }

  /** Whether any of it is in memory. */
  get isLoaded(): boolean {
    return this.#sessions.size > 0
  }

  /** Whether a stage can begin at once, with no weights to load before it. */
  isReadyFor(stage: Stage): boolean {
    return this.#sessions.has(stage)
  }

  /** Parts that a decode is done in. */
  get decoderParts(): number {
    return this.#graphs.decode.length
  }

  /** Milliseconds that the library's own calls took so far. */
  get computedMs(): number {
    return [...this.#sessions.values()].reduce(
      (sum, { sessions }) => sum + computedMsOf(sessions),
      this.#computedBeforeMs + (this.#tiled?.computedMs ?? 0),
    )
  }

  /**
   * Makes the sessions of a stage; does nothing when they are there. Blocks the thread while weights are loaded.
   * @throws {WeightsError | SessionError}
   */
  async prepare(stage: Stage): Promise<void> {
    if (this.isReadyFor(stage)) return
    for (const other of this.#leaving(stage)) await this.#release(other)
    const key = await this.#keyOf(stage)
    const sessions = await this.#shared.acquire(key, () => this.#openAll(stage))
    // What they computed for others is not this model's.
    this.#computedBeforeMs -= computedMsOf(sessions)
    this.#sessions.set(stage, { sessions, key })
  }

  /** The same for every model of the device whose stage is the same graphs over the same weights. */
  async #keyOf(stage: Stage): Promise<string> {
    const { fingerprint: weights, tensors } = this.#components[stage]
    // The fingerprint samples; the files' dates see what it cannot.
    return [
      stage,
      weights,
      ...(await modificationDates([...tensors.values()].map(({ file }) => file))),
    ].join()
  }

  async #openAll(stage: Stage): Promise<readonly Session[]> {
    const weights = await this.#weights(this.#components[stage])
    const sessions: Session[] = []
    try {
      for (const graph of this.#graphs[stage]) sessions.push(await this.#open(stage, graph, weights))
    } catch (error) {
      for (const session of sessions) await session.close()
      throw error
    }
    return sessions
  }

  /** This stage, and all that have room beside it. @throws {WeightsError | SessionError} */
  async load(first: Stage = 'encode'): Promise<void> {
    for (const stage of [first, ...stages]) if (this.#leaving(stage).length === 0) await this.prepare(stage)
  }

  /** Frees the weights' copies and all buffers. The model can be loaded again. */
  async unload(): Promise<void> {
    for (const stage of stages) await this.#release(stage)
    // Whoever asked for one that cannot be opened was told why.
    const encoder = await this.#encoder?.catch(() => undefined)
    this.#encoder = undefined
    await encoder?.close()
  }

  /** (B, T) ids and mask → (B, T, D) */
  async encodeText(ids: Int32Array, mask: Float32Array, batch: number): Promise<Float32Array> {
    const length = ids.length / batch
    const feeds = { input_ids: int32(ids, batch, length), mask: float32(mask, batch, length) }
    const [encoder] = await this.#ready('encode')
    return floats(await encoder!.run(feeds), 'hidden').data
  }

  /** (T, D) of one text, computed once for a text encoder and kept in the cache: a large encoder takes seconds. */
  async encodeOnce({ ids, mask }: Pick<Tokens, 'ids' | 'mask'>): Promise<Float32Array> {
    const { provider, threads, lowering, precision = 'float32', cacheDir, onNote } = this.#options
    const files = [...this.#components.encode.tensors.values()].map(({ file }) => file)
    const key = fingerprint([
      keptTextVersion,
      libraryVersion,
      this.#components.encode.fingerprint,
      ...(await modificationDates(files)),
      provider,
      String(threads || availableParallelism()),
      lowering,
      precision,
      ids.join(' '),
    ]).slice(0, 16)
    const shape = [ids.length, this.pixart.captionWidth]
    return keptTensor({ file: join(cacheDir, 'texts', `${key}.safetensors`), shape, onNote }, () =>
      this.encodeText(ids, mask, 1),
    )
  }

  /**
   * What the transformer's cross-attentions make of a text; no step changes it.
   * @param hidden (T, D)
   * @returns keys and values of each layer, (2·layers, T, width)
   */
  async context(hidden: Float32Array, tokens: number): Promise<Float32Array> {
    const [context] = await this.#ready('denoise')
    const outputs = await context!.run({ text: float32(hidden, 1, tokens, hidden.length / tokens) })
    return floats(outputs, 'context').data
  }

  /**
   * What the transformer makes of timesteps (S), each for a picture's size; models that know no sizes ignore them.
   * @param sizes `resolution` (S, 2), height and width in pixels; `aspectRatio` (S), height / width
   */
  async timing(
    timesteps: Float32Array,
    { resolution, aspectRatio }: { readonly resolution: Float32Array; readonly aspectRatio: Float32Array },
  ): Promise<Timing> {
    const S = timesteps.length
    const timestep = float32(timesteps, S)
    const sizes = { resolution: float32(resolution, S, 2), aspect_ratio: float32(aspectRatio, S, 1) }
    const [, timing] = await this.#ready('denoise')
    const outputs = await timing!.run(this.pixart.microConditioned ? { timestep, ...sizes } : { timestep })
    return { embedded: floats(outputs, 'embedded').data, modulation: floats(outputs, 'modulation').data }
  }

  /** One call of the transformer: the step graph's own inputs, its output written into `output`. */
  async predictNoise(
    inputs: Readonly<Record<string, Tensor<'float32'>>>,
    output: Float32Array,
  ): Promise<void> {
    const [, , step] = await this.#ready('denoise')
    await step!.run(inputs, { into: { output } })
  }

  /** Latents divided by the scaling factor (B, C, h, w), in the form that the first part of the decoder takes. */
  decoderInput(latents: Float32Array, { batch, height, width }: LatentSize): Tensor<'float32'> {
    return float32(latents, batch, this.vae.latentChannels, height, width)
  }

  /** One part of a decode; the last one's output is (B, 3, H, W). Large pictures are decoded in strips where memory is short. */
  async decodePart(part: number, hidden: Tensor<'float32'>): Promise<Tensor<'float32'>> {
    const session = (await this.#ready('decode'))[part]
    if (part > 0 && this.#pixelsOf(part, hidden) > this.plan.wholeDecodeMaxPixels) {
      const tiled = await this.#tiledDecoder()
      return tiled.runPart(part, hidden, { strip: { workspaceBytes: this.plan.stripBytes } })
    }
    const [input] = session?.graph.inputs ?? []
    if (!session || !input)
      throw new RangeError(`a decode has ${this.decoderParts} parts, and none is number ${part}`)
    const [output = ''] = Object.keys(session.graph.outputs)
    return floats(await session.run({ [input.name]: hidden }), output)
  }

  /** A whole decode: latents divided by the scaling factor (B, C, h, w) → (B, 3, H, W). */
  async decode(latents: Float32Array, size: LatentSize): Promise<Float32Array<ArrayBuffer>> {
    let hidden = this.decoderInput(latents, size)
    for (let part = 0; part < this.decoderParts; part++) hidden = await this.decodePart(part, hidden)
    return ownBuffer(hidden.data)
  }

  /** (B, 3, H, W) → mean and logarithm of the variance, (B, C, h, w) each, not multiplied by the scaling factor. */
  async encodeImage(
    image: Float32Array,
    { batch, height, width }: LatentSize,
  ): Promise<{ mean: Float32Array; logvar: Float32Array }> {
    this.#encoder ??= this.#openEncoder()
    const session = await this.#encoder
    const size = [height * this.latentScale, width * this.latentScale] as const
    const outputs = await session.run({ image: float32(image, batch, this.vae.imageChannels, ...size) })
    return { mean: floats(outputs, 'mean').data, logvar: floats(outputs, 'logvar').data }
  }

  async #openEncoder(): Promise<Session> {
    try {
      const weights = await this.#weights(this.#components.decode)
      return await this.#open('decode', this.#graphs.encoder, weights)
    } catch (error) {
      this.#encoder = undefined
      throw error
    }
  }

  async #ready(stage: Stage): Promise<readonly Session[]> {
    if (!this.isLoaded) throw new Error(`the model ${this.description.name} is not loaded`)
    await this.prepare(stage)
    return this.#sessions.get(stage)?.sessions ?? []
  }

  /** Stages that must leave the memory before this one comes. */
  #leaving(stage: Stage): readonly Stage[] {
    if (this.plan.textEncoder === 'stays') return []
    const others = stage === 'encode' ? (['denoise', 'decode'] as const) : (['encode'] as const)
    return others.filter((other) => this.isReadyFor(other))
  }

  async #release(stage: Stage): Promise<void> {
    const held = this.#sessions.get(stage)
    if (!held) return
    this.#sessions.delete(stage)
    this.#computedBeforeMs += computedMsOf(held.sessions)
    await this.#shared.release(held.key)
  }

  /** Of the picture that this hidden state becomes. */
  #pixelsOf(part: number, { dims: [, , height = 0, width = 0] }: Tensor): number {
    const growth = this.#graphs.decode.slice(part).reduce((product, graph) => product * growthOf(graph), 1)
    return height * width * growth ** 2
  }

  async #tiledDecoder(): Promise<TiledDecoder> {
    if (this.#tiled) return this.#tiled
    const weights = await this.#weights(this.#components.decode)
    const { lowering, precision = 'float32' } = this.#options
    this.#tiled ??= new TiledDecoder(this.vae, lowering, weights, { ...this.#sessionOptions, precision })
    return this.#tiled
  }

  #weights(component: ServedWeights): Promise<ReadonlyMap<string, TensorLocation>> {
    const { cacheDir, precision = 'float32', onNote } = this.#options
    const onCast = ({ file, sizeBytes }: { file: string; sizeBytes: number }) =>
      onNote(
        `converting ${component.name} of ${this.description.name} to ${precision}, once: ${mebibytes(sizeBytes)} in ${file}`,
      )
    return tensorsFor(component, component.dtypes, cacheDir, { onCast })
  }

  #open(stage: Stage, graph: Graph, weights: ReadonlyMap<string, TensorLocation>): Promise<Session> {
    // The decoder's parts run one after the other, and the largest buffers of each would stay beside those of the next.
    const buffers = stage === 'decode' ? 'returned' : 'kept'
    return Session.open(graph, weights, { ...this.#sessionOptions, buffers })
  }

  get #sessionOptions(): SessionOptions {
    const { provider, deviceIndex, threads, lowering } = this.#options
    // The library must not fuse again what the plain lowering keeps apart.
    return { provider, deviceIndex, threads, fusion: lowering === 'plain' ? 'elementary' : 'all' }
  }
}

const computedMsOf = (sessions: readonly Session[]): number =>
  sessions.reduce((sum, { computedMs }) => sum + computedMs, 0)

/** How many times as high as its input a part's output is. */
function growthOf({ inputs: [input], outputs }: Graph): number {
  const [output] = Object.values(outputs)
  const [from, to] = [input?.shape.at(-2), output?.shape.at(-2)]
  const name = from === undefined ? undefined : symbolName(from)
  if (to === undefined || name === undefined)
    throw new TypeError('a part of a decoder goes from picture to picture')
  return evaluate(to, { [name]: 1 })
}

/** Tried out, so that no second place knows a solver's limits. */
function mostSteps(scheduler: SchedulerName, config: SchedulerConfig): number {
  for (let steps = maxSteps; steps > 0; steps--) {
    try {
      return createSolver(scheduler, config, steps).steps
    } catch (error) {
      if (!(error instanceof SolverError)) throw error
    }
  }
  return 0
}

function floats(outputs: Readonly<Record<string, Tensor>>, name: string): Tensor<'float32'> {
  const tensor = outputs[name]
  if (tensor?.dtype !== 'float32')
    throw new TypeError(`expected ${name} in float32, got ${tensor?.dtype ?? 'none'}`)
  return tensor
}

/** The library's outputs own their buffers, which its types do not say. */
const ownBuffer = (data: Float32Array): Float32Array<ArrayBuffer> =>
  data.buffer instanceof ArrayBuffer ? (data as Float32Array<ArrayBuffer>) : new Float32Array(data)
