/** What one LoRA step of a published transformer's size takes: memory and time, beside weights that stay in their file. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { float32, partlyFed, Session, type SessionOptions, type Tensor } from '../src/engine/session.ts'
import type { Graph } from '../src/graph/ir.ts'
import { parameterShapes } from '../src/models/parameters.ts'
import { pixart, readPixArtConfig, type PixArtConfig } from '../src/models/pixart.ts'
import { preset } from '../src/models/presets.ts'
import { syntheticValues } from '../src/models/synthetic-values.ts'
import { defaultAdamW, startAdamW, stepAdamW } from '../src/training/adamw.ts'
import { blockwiseGraphs, blockwiseStep, type RunPart } from '../src/training/blockwise.ts'
import { diffusionProcess, type DiffusionProcess } from '../src/training/diffusion-process.ts'
import { gradientName, noiseLossOf, stepOf } from '../src/training/gradient-graphs.ts'
import { clipFactor, globalNorm } from '../src/training/gradient-sum.ts'
import {
  defaultTargets,
  isLoraKey,
  loraShapes,
  planLora,
  startLora,
  withLora,
  type Adapter,
} from '../src/training/lora.ts'
import { updateAverage } from '../src/training/moving-average.ts'
import type { Tensors } from '../src/training/tensors.ts'
import { openSafetensors, type TensorLocation } from '../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../src/weights/safetensors-writer.ts'
import { forgetPeak, readMemory, readPeakBytes } from './model/memory.ts'
import type { Benchmark } from './report.ts'
import { temporaryFolder } from './temporary-folder.ts'

const arrangements = ['whole', 'blocks'] as const

type Options = Readonly<{ arrangement: string; packed: boolean }> &
  Readonly<Record<'depth' | 'side' | 'batch' | 'rank' | 'rounds' | 'threads', number>>

export const trainingLora: Benchmark<Options> = {
  name: 'training-lora',
  description: "memory and time of a LoRA step at PixArt-XL/2's width, optimiser included",
  options: {
    depth: { description: 'transformer blocks', fallback: 28 },
    side: { description: 'image tokens along one side; 16 are 256 pixels', fallback: 16 },
    batch: { description: 'rows of a batch', fallback: 1 },
    rank: { description: 'of the adapter', fallback: 16 },
    rounds: { description: 'steps that are timed, after one to warm up', fallback: 3 },
    threads: { description: 'threads of the library, 0 for one a core', fallback: 0 },
    arrangement: {
      description: 'one graph, or block by block with recomputation',
      fallback: 'whole',
      choices: arrangements,
    },
    packed: { description: 'give each session a packed copy of the frozen weights', fallback: false },
  },
  async run({ depth, side, batch, rank, rounds, threads, arrangement, packed }, tell) {
    const { transformer } = preset('pixart-xl-2-256x256', { depth })
    const config = readPixArtConfig(transformer)
    const process = diffusionProcess({
      trainTimesteps: 1000,
      predictionType: 'epsilon',
      betaSchedule: 'linear',
      betaStart: 1e-4,
      betaEnd: 0.02,
    })
    tell('writing random weights')
    const base = await writeWeights(join(temporaryFolder(), 'transformer.safetensors'), config)
    const adapter = planLora(pixart(config, 'train'), { rank, alpha: rank, targets: defaultTargets })
    const trainee = traineeOf(adapter)
    const options = {
      provider: 'cpu',
      threads,
      buffers: 'returned',
      prepacking: packed ? 'on' : 'off',
    } as const
    const before = readMemory()
    forgetPeak()
    const startedMs = performance.now()
    const given = {
      config,
      process,
      adapter,
      base,
      trainee,
      options,
    }
    const compute = await (arrangement === 'whole' ? openWhole(given) : openBlockwise(given))
    const openMs = performance.now() - startedMs
    const feeds = batchOf(config, batch, side)
    const [gradientMs, optimiserMs]: [number[], number[]] = [[], []]
    let loss = Number.NaN
    for (let round = 0; round <= rounds; round++) {
      const gradient = await timed(async () => (loss = await compute.run(feeds)))
      const update = await timed(async () => trainee.update())
      tell(`step ${round}: loss ${loss.toFixed(4)}, ${(gradient + update).toFixed(0)} ms`)
      if (round === 0) continue
      gradientMs.push(gradient)
      optimiserMs.push(update)
    }
    const peakBytes = readPeakBytes()
    const after = readMemory()
    await compute.close()
    const parameters = [...base.values()].reduce((sum, { length }) => sum + length / 4, 0)
    const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
    return {
      method: [
        `A step: loss and gradients of A and B, gradient norm, AdamW and the moving average. ${rounds} steps after one to warm up.`,
        `Model: random weights, width 1152, ${depth} blocks, ${parameters} parameters in float32 in a file; LoRA of rank ${rank} on ${adapter.modules.size} projections, ${trainee.parameters} parameters; batch ${batch}, ${side ** 2} image and 120 text tokens; ${threads || availableParallelism()} threads.`,
        `Memory: the most that was resident at any time, mapped file and library included; a page that two sessions map, forwards and backwards, counts twice.`,
      ],
      figures: [
        { name: 'loss and gradients', unit: 'ms', values: gradientMs },
        { name: 'optimiser and moving average', unit: 'ms', values: optimiserMs },
        { name: 'opening the sessions', unit: 'ms', values: [openMs] },
      ],
      tables: [
        {
          title: 'Resident memory',
          columns: ['', 'MiB'],
          rows: [
            ['before any session', mebibytes(before.privateBytes + before.fileBytes)],
            ['at most', mebibytes(peakBytes)],
            ['private after the last step', mebibytes(after.privateBytes)],
            ['mapped after the last step', mebibytes(after.fileBytes)],
          ],
        },
      ],
      requirements: [
        { what: 'most resident memory', value: mebibytes(peakBytes), unit: 'MiB', atMost: 12 * 1024 },
      ],
    }
  },
}

type Locations = ReadonlyMap<string, TensorLocation>
type Floats = Tensor<'float32'>

async function writeWeights(file: string, config: PixArtConfig): Promise<Locations> {
  const sources = Array.from(
    parameterShapes(pixart(config, 'train')),
    ([key, shape]): [string, TensorSource] => {
      const deviation = shape.length > 1 ? shape.slice(1).reduce((a, b) => a * b) ** -0.5 : 0.02
      return [
        key,
        { dtype: 'F32', shape, data: syntheticValues(key, 'F32', sizeOf(shape), { mean: 0, deviation }) },
      ]
    },
  )
  await writeSafetensors(file, sources)
  return (await openSafetensors(file)).tensors
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** An adapter that is trained: its tensors, and their gradients for a step to write. */
function traineeOf(adapter: Adapter) {
  const shapes = loraShapes(adapter)
  const weights: Tensors = startLora(adapter, 1)
  const gradients: Tensors = new Map([...weights].map(([key, { length }]) => [key, new Float32Array(length)]))
  const average: Tensors = new Map([...weights].map(([key, data]) => [key, data.slice()]))
  const state = startAdamW(weights)
  return {
    parameters: [...weights.values()].reduce((sum, { length }) => sum + length, 0),
    weights: new Map([...weights].map(([key, data]) => [key, float32(data, ...shapes.get(key)!)])),
    gradients,
    update: () => {
      const scale = clipFactor(globalNorm(gradients), 0.01)
      stepAdamW(weights, state, { gradients, scale, learningRate: 2e-5 }, defaultAdamW)
      updateAverage(average, weights, 0.9999)
    },
  }
}

interface StepOptions {
  readonly config: PixArtConfig
  readonly process: DiffusionProcess
  readonly adapter: Adapter
  readonly base: Locations
  readonly trainee: ReturnType<typeof traineeOf>
  readonly options: SessionOptions
}

interface Step {
  /** Writes the gradients. @returns the loss */
  run(feeds: Readonly<Record<string, Floats>>): Promise<number>
  close(): Promise<void>
}

async function openWhole({ config, process, adapter, base, trainee, options }: StepOptions): Promise<Step> {
  const model = withLora(pixart(config, 'train'), adapter)
  const graph = stepOf(noiseLossOf(model, process, { kind: 'variational' }), { trainable: isLoraKey })
  const session = await Session.open(graph, partlyFed(graph, base), options)
  const own = Object.fromEntries(trainee.weights)
  const into = Object.fromEntries([...trainee.gradients].map(([key, data]) => [gradientName(key), data]))
  return {
    run: async (feeds) => floatsOf((await session.run({ ...feeds, ...own }, { into }))['loss']).data[0]!,
    close: () => session.close(),
  }
}

/** A block's sessions are its own, since its frozen weights are. */
async function openBlockwise({
  config,
  process,
  adapter,
  base,
  trainee,
  options,
}: StepOptions): Promise<Step> {
  const prefixes = Array.from({ length: config.layers }, (_, layer) => `transformer_blocks.${layer}.`)
  const adapt = (part: Graph): Graph =>
    withLora(part, adapter, part.name === 'pixart_block' ? { prefixes } : {})
  const graphs = blockwiseGraphs(config, process, { kind: 'variational', trainable: isLoraKey, adapt })
  const sessions = new Map<string, Session>()
  const sessionOf = async (part: Graph, prefix: string): Promise<Session> => {
    const key = `${part.name} ${prefix}`
    const known = sessions.get(key)
    if (known) return known
    const own = [...base].filter(([name]) => name.startsWith(prefix))
    const files = new Map(own.map(([name, location]) => [name.slice(prefix.length), location]))
    const session = await Session.open(part, partlyFed(part, files), options)
    sessions.set(key, session)
    return session
  }
  const run: RunPart<Floats> = async (part, given, prefix) => {
    const session = await sessionOf(part, prefix)
    const own = part.parameters.flatMap(({ name }): [string, Floats][] => {
      const tensor = trainee.weights.get(prefix + name)
      return tensor ? [[name, tensor]] : []
    })
    const into = Object.fromEntries(
      part.parameters.flatMap(({ name }): [string, Float32Array][] => {
        const buffer = trainee.gradients.get(prefix + name)
        return buffer && gradientName(name) in part.outputs ? [[gradientName(name), buffer]] : []
      }),
    )
    const outputs = await session.run({ ...given, ...Object.fromEntries(own) }, { into })
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, floatsOf(tensor)]))
  }
  return {
    run: async (feeds) => (await blockwiseStep(graphs, feeds, run)).terms['loss']!.data[0]!,
    close: async () => {
      for (const session of sessions.values()) await session.close()
    },
  }
}

function floatsOf(tensor: Tensor | undefined): Floats {
  if (tensor?.dtype !== 'float32') throw new TypeError(`expected float32, got ${tensor?.dtype ?? 'nothing'}`)
  return tensor
}

function batchOf(config: PixArtConfig, batch: number, side: number): Readonly<Record<string, Floats>> {
  const T = 120
  const tokens = [batch, side ** 2, config.inChannels * config.patchSize ** 2]
  const coords = Float32Array.from({ length: batch * side ** 2 * 2 }, (_, i) => {
    const token = Math.floor(i / 2) % side ** 2
    return i % 2 === 0 ? Math.floor(token / side) : token % side
  })
  return {
    tokens: noise(tokens, 1),
    clean: noise(tokens, 2),
    noise: noise(tokens, 3),
    coords: float32(coords, batch, side ** 2, 2),
    timestep: float32(new Float32Array(batch).fill(400), batch),
    text: noise([batch, T, config.captionWidth], 4),
    mask: float32(new Float32Array(batch * T).fill(1), batch, T),
  }
}

/** Numbers between −1 and 1 that the seed decides. */
function noise(dims: readonly number[], seed: number): Floats {
  let state = (seed * 2654435761 + 97) >>> 0
  const data = Float32Array.from({ length: sizeOf(dims) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
  return float32(data, ...dims)
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await action()
  return performance.now() - startedMs
}
