/**
 * The components of a checkpoint as they are measured: which graphs each is, and the calls that serving makes of them.
 *
 * Legend: R rows, N image tokens, T text tokens, D width, B pictures, h × w latents.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { float32, int32, Session, type SessionOptions, type Tensor } from '../../src/engine/session.ts'
import type { Graph } from '../../src/graph/ir.ts'
import type { WeightStorage } from '../../src/graph/scope.ts'
import { pixartParts, readPixArtConfig } from '../../src/models/pixart.ts'
import { readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { readVaeConfig, vaeDecoderParts, vaeDownsampling } from '../../src/models/vae.ts'
import { weightStorage } from '../../src/models/weight-storage.ts'
import { openComponent, type Component } from '../../src/weights/checkpoint.ts'
import { uniform } from './matrix-products.ts'

export const componentNames = ['text encoder', 'transformer', 'VAE decoder'] as const
export type ComponentName = (typeof componentNames)[number]

type Feeds = Readonly<Record<string, Tensor>>

/** A run of a session, which a call may make several of. */
export interface Executed {
  readonly session: Session
  readonly feeds: Feeds
  /** The session's graph at the published depth. */
  readonly whole?: Graph
}

export interface Call {
  readonly name: string
  readonly shape: string
  /** How often it is timed: fewer where one takes long. */
  readonly rounds: number
  /** Whether its matrix products alone are timed beside it. */
  readonly hasFloor: boolean
  /** What it brings forth, for a rate. */
  readonly yields?: { readonly amount: number; readonly unit: string }
  readonly run: () => Promise<readonly Executed[]>
}

export interface Opened {
  readonly weights: Component['tensors']
  readonly sessions: readonly Session[]
  readonly calls: readonly Call[]
}

export interface ComponentOptions extends SessionOptions {
  /** A checkpoint's folder. */
  readonly checkpoint: string
  /** Layers and blocks that the published model has. */
  readonly published: { readonly textDepth: number; readonly depth: number }
  /** Also what takes minutes: a decode at 1024 px. */
  readonly large: boolean
}

/** @throws {WeightsError | SessionError} */
export function openNamed(name: ComponentName, options: ComponentOptions): Promise<Opened> {
  switch (name) {
    case 'text encoder':
      return openTextEncoder(options)
    case 'transformer':
      return openTransformer(options)
    case 'VAE decoder':
      return openDecoder(options)
  }
}

const promptTokens = 120

async function openTextEncoder(options: ComponentOptions): Promise<Opened> {
  const component = await openComponent(join(options.checkpoint, 'text_encoder'))
  const config = readT5Config(component.config)
  const storage = weightStorage(component, 'serve')
  const whole = t5Encoder({ ...config, layers: options.published.textDepth }, 'serve')
  const session = await open(t5Encoder(config, 'serve', storage), component, options)
  const call = (rows: number): Call => {
    const ids = Int32Array.from({ length: rows * promptTokens }, (_, i) => (i * 7919) % config.vocabulary)
    const mask = new Float32Array(ids.length).fill(1)
    const feeds = { input_ids: int32(ids, rows, promptTokens), mask: float32(mask, rows, promptTokens) }
    return {
      name: rows === 1 ? 'a prompt' : `${rows} prompts`,
      shape: `${rows} × ${promptTokens} tokens, ${config.layers} layers of ${config.width}`,
      rounds: 7,
      hasFloor: isInFull(storage),
      yields: { amount: rows * promptTokens, unit: 'tokens' },
      run: async () => [await execute({ session, feeds, whole })],
    }
  }
  return { weights: component.tensors, sessions: [session], calls: [call(1), call(2)] }
}

async function openTransformer(options: ComponentOptions): Promise<Opened> {
  const component = await openComponent(join(options.checkpoint, 'transformer'))
  const config = readPixArtConfig(component.config)
  const storage = weightStorage(component, 'serve')
  const graphs = pixartParts(config, 'serve', storage)
  const whole = pixartParts({ ...config, layers: options.published.depth }, 'serve')
  const context = await open(graphs.context, component, options)
  const timing = await open(graphs.timing, component, options)
  const step = await open(graphs.step, component, options)
  const R = 2
  const width = config.heads * config.headWidth
  const text = { text: filled([R, promptTokens, config.captionWidth]) }
  const time = {
    timestep: float32(new Float32Array(R).fill(500), R),
    ...(config.microConditioned && {
      resolution: float32(new Float32Array(2 * R).fill(512), R, 2),
      aspect_ratio: float32(new Float32Array(R).fill(1), R, 1),
    }),
  }
  const conditions = { ...(await timing.run(time)), ...(await context.run(text)) }
  // The negative prompt is the end token alone.
  const mask = Float32Array.from({ length: R * promptTokens }, (_, i) =>
    i < 1 || (i >= promptTokens && i < promptTokens + 20) ? 1 : 0,
  )
  const once = { rounds: 7, hasFloor: false }
  const calls: Call[] = [
    {
      ...once,
      name: 'keys and values of the text',
      shape: `${R} × ${promptTokens} tokens, ${config.layers} blocks of ${width}`,
      run: async () => [await execute({ session: context, feeds: text, whole: whole.context })],
    },
    {
      ...once,
      name: 'timestep',
      shape: `${R} rows`,
      run: async () => [await execute({ session: timing, feeds: time })],
    },
  ]
  for (const [pixels, rounds] of [
    [256, 9],
    [512, 7],
    [1024, 3],
  ] as const) {
    const side = pixels / 16
    const N = side ** 2
    const coords = Float32Array.from({ length: R * N * 2 }, (_, i) =>
      i % 2 === 0 ? Math.floor(i / 2 / side) % side : Math.floor(i / 2) % side,
    )
    const feeds: Feeds = {
      ...conditions,
      tokens: filled([R, N, config.inChannels * config.patchSize ** 2]),
      coords: float32(coords, R, N, 2),
      mask: float32(mask, R, promptTokens),
    }
    calls.push({
      name: stepAt(pixels),
      shape: `${R} × ${N} tokens, ${config.layers} blocks of ${width}`,
      rounds,
      hasFloor: isInFull(storage),
      run: async () => [await execute({ session: step, feeds, whole: whole.step })],
    })
  }
  return { weights: component.tensors, sessions: [context, timing, step], calls }
}

export const stepAt = (pixels: number): string => `step at ${pixels} px`

async function openDecoder(options: ComponentOptions): Promise<Opened> {
  const component = await openComponent(join(options.checkpoint, 'vae'))
  const config = readVaeConfig(component.config)
  const sessions: Session[] = []
  for (const graph of vaeDecoderParts(config, 'serve')) sessions.push(await open(graph, component, options))
  const sizes = [[256, 3], [512, 3], ...(options.large ? [[1024, 1] as const] : [])] as const
  const calls = sizes.map(([pixels, rounds]): Call => {
    const side = pixels / vaeDownsampling(config)
    const latents = filled([1, config.latentChannels, side, side])
    return {
      name: `decode at ${pixels} px`,
      shape: `1 × ${config.latentChannels} × ${side} × ${side}`,
      rounds,
      hasFloor: false,
      yields: { amount: pixels ** 2 / 1e6, unit: 'Mpx' },
      run: async () => {
        const executed: Executed[] = []
        let hidden: Tensor = latents
        for (const session of sessions) {
          const feeds: Feeds = { [session.graph.inputs[0]!.name]: hidden }
          executed.push({ session, feeds })
          hidden = Object.values(await session.run(feeds))[0]!
        }
        return executed
      },
    }
  })
  return { weights: component.tensors, sessions, calls }
}

/** Products with weights in blocks are no plain matrix products to be held against. */
const isInFull = ({ formats }: WeightStorage): boolean => formats.size === 0

async function execute(run: Executed): Promise<Executed> {
  await run.session.run(run.feeds)
  return run
}

/** A profile has a file of its own for each session: the library names them by the second. */
function open(
  graph: Graph,
  { tensors }: Component,
  { profile, ...options }: ComponentOptions,
): Promise<Session> {
  if (profile === undefined) return Session.open(graph, tensors, options)
  mkdirSync(join(profile, graph.name), { recursive: true })
  return Session.open(graph, tensors, { ...options, profile: join(profile, graph.name, 'profile') })
}

const filled = (dims: readonly number[]): Tensor<'float32'> => float32(uniform(dims, 1), ...dims)
