/** What a training step costs, by the forward pass of the model as it is served. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { float32, Session, type SessionOptions, type Tensor } from '../src/engine/session.ts'
import type { Graph } from '../src/graph/ir.ts'
import { parameterShapes } from '../src/models/parameters.ts'
import { pixart, readPixArtConfig } from '../src/models/pixart.ts'
import { defaultAdamW, startAdamW, stepAdamW } from '../src/training/adamw.ts'
import {
  blockwiseGraphs,
  blockwiseStep,
  type BlockwiseGraphs,
  type RunPart,
} from '../src/training/blockwise.ts'
import { diffusionProcess } from '../src/training/diffusion-process.ts'
import { gradientName, transformerStep } from '../src/training/gradient-graphs.ts'
import { clipFactor, globalNorm } from '../src/training/gradient-sum.ts'
import { updateAverage } from '../src/training/moving-average.ts'
import { openSafetensors } from '../src/weights/safetensors.ts'
import { writeSafetensors } from '../src/weights/safetensors-writer.ts'
import { forgetPeak, readMemory, readPeakBytes } from './model/memory.ts'
import { summarise, type Benchmark, type Report } from './report.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { transformerConfig } from './transformer-config.ts'

type Options = Readonly<{ recompute: boolean }> &
  Readonly<
    Record<'blocks' | 'heads' | 'headWidth' | 'batch' | 'side' | 'text' | 'rounds' | 'threads', number>
  >

const captionWidth = 64

export const training: Benchmark<Options> = {
  name: 'training',
  description: 'a training step, optimiser included, against the forward pass in the serving lowering',
  options: {
    blocks: { description: 'transformer blocks', fallback: 4 },
    heads: { description: 'attention heads', fallback: 3 },
    headWidth: { description: 'width of a head', fallback: 64 },
    batch: { description: 'rows of a batch', fallback: 64 },
    side: { description: 'image tokens along one side', fallback: 8 },
    text: { description: 'text tokens', fallback: 32 },
    rounds: { description: 'how often both take turns', fallback: 8 },
    threads: { description: 'threads of the library, 0 for one a core', fallback: 0 },
    recompute: {
      description: 'measure memory and time block by block, with recomputation, against all at once instead',
      fallback: false,
    },
  },
  async run({ blocks, heads, headWidth, batch, side, text, rounds, threads, recompute }, tell) {
    const config = readPixArtConfig(transformerConfig({ heads, headWidth, blocks, captionWidth }))
    const process = diffusionProcess({
      trainTimesteps: 1000,
      predictionType: 'epsilon',
      betaSchedule: 'linear',
      betaStart: 1e-4,
      betaEnd: 0.02,
    })
    const step = transformerStep(config, process, { kind: 'variational' })
    const weights = new Map([...parameterShapes(step)].map(([key, dims], i) => [key, noise(dims, i)]))
    const tokens = [batch, side ** 2, config.inChannels * config.patchSize ** 2]
    const inputs = {
      tokens: noise(tokens, 1),
      coords: noise([batch, side ** 2, 2], 2),
      timestep: float32(
        Float32Array.from({ length: batch }, (_, row) => (row * 997) % 1000),
        batch,
      ),
      text: noise([batch, text, captionWidth], 3),
      mask: float32(new Float32Array(batch * text).fill(1), batch, text),
    }
    const feeds = {
      ...inputs,
      clean: noise(tokens, 4),
      noise: noise(tokens, 5),
      ...Object.fromEntries(weights),
    }
    const options = { provider: 'cpu', threads } as const
    const parameters = [...weights.values()].reduce((sum, { data }) => sum + data.length, 0)
    const model = `Model: random weights, ${blocks} blocks of ${heads} heads × ${headWidth}, ${parameters} parameters; batch ${batch}, ${side ** 2} image and ${text} text tokens; ${threads || availableParallelism()} threads.`
    if (recompute) {
      const graphs = blockwiseGraphs(config, process, { kind: 'variational' })
      const lean = { ...options, buffers: 'returned' } as const
      const both = { step, graphs, feeds, weights, options: lean, rounds }
      return { ...(await compareRecomputation(both, tell)), method: [recomputationMethod, model] }
    }
    const file = join(temporaryFolder(), 'weights.safetensors')
    tell('writing random weights')
    await writeSafetensors(
      file,
      [...weights].map(([key, { dims, data }]) => [key, { dtype: 'F32', shape: dims, data }]),
    )
    const served = await Session.open(pixart(config, 'serve'), (await openSafetensors(file)).tensors, options)
    const trained = await Session.open(step, 'inputs', options)

    const optimise = optimiser(new Map([...weights].map(([key, { data }]) => [key, data])))
    const [forwardMs, gradientMs, optimiserMs]: [number[], number[], number[]] = [[], [], []]
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const forward = await timed(() => served.run(inputs))
      const gradient = await timed(() => trained.run(feeds, { into: optimise.into }))
      const update = await timed(() => Promise.resolve(optimise.step()))
      if (round === 0) continue
      forwardMs.push(forward)
      gradientMs.push(gradient)
      optimiserMs.push(update)
      tell(`round ${round}: forward ${forward.toFixed(0)} ms, step ${(gradient + update).toFixed(0)} ms`)
    }
    await served.close()
    await trained.close()
    const stepMs = gradientMs.map((ms, round) => ms + (optimiserMs[round] ?? 0))
    return {
      method: [
        `${rounds} rounds after one to warm up, in each a forward pass in the serving lowering (weights of the session), then a step: loss and all gradients (weights as inputs), gradient norm, AdamW and the moving average.`,
        model,
      ],
      figures: [
        { name: 'forward pass, serving', unit: 'ms', values: forwardMs },
        { name: 'loss and gradients', unit: 'ms', values: gradientMs },
        { name: 'optimiser and moving average', unit: 'ms', values: optimiserMs },
      ],
      requirements: [
        {
          what: 'a training step, by the forward pass in serving',
          value: summarise(stepMs).median / summarise(forwardMs).median,
          unit: '×',
          atMost: 3.5,
        },
      ],
    }
  },
}

const recomputationMethod =
  'A step block by block, each computed again for its gradients, five sessions for all of it; then, with those closed, a step in one session. Memory: the most that was resident during the first step, beyond what was before it, gradients included. Sessions give their buffers back after every run. Time: the median of later steps.'

interface Compared {
  readonly step: Graph
  readonly graphs: BlockwiseGraphs
  readonly feeds: Feeds
  readonly weights: ReadonlyMap<string, Floats>
  readonly options: SessionOptions
  readonly rounds: number
}

async function compareRecomputation(
  { step, graphs, feeds, weights, options, rounds }: Compared,
  tell: (message: string) => void,
): Promise<Omit<Report, 'method'>> {
  const sessions = new Map<Graph, Session>()
  for (const part of [graphs.entrance, graphs.block, graphs.exitStep, graphs.blockStep, graphs.entranceStep])
    sessions.set(part, await Session.open(part, 'inputs', options))
  const run: RunPart<Floats> = async (part, given, prefix) => {
    const own = part.parameters.map(({ name }) => [name, weights.get(prefix + name)!] as const)
    return floatsOf(await sessions.get(part)!.run({ ...given, ...Object.fromEntries(own) }))
  }
  const blockwise = await observe(async () => (await blockwiseStep(graphs, feeds, run)).gradients, rounds)
  for (const session of sessions.values()) await session.close()
  tell('block by block: done')
  const session = await Session.open(step, 'inputs', options)
  const atOnce = await observe(async () => {
    const outputs = floatsOf(await session.run(feeds))
    return new Map([...weights.keys()].map((key) => [key, outputs[gradientName(key)]!]))
  }, rounds)
  await session.close()
  let [apart, largest] = [0, 0]
  for (const [key, { data }] of atOnce.result) {
    const other = blockwise.result.get(key)!.data
    for (const [i, value] of data.entries()) {
      apart = Math.max(apart, Math.abs(value - other[i]!))
      largest = Math.max(largest, Math.abs(value))
    }
  }
  const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
  return {
    figures: [
      { name: 'block by block', unit: 'ms', values: blockwise.ms },
      { name: 'at once', unit: 'ms', values: atOnce.ms },
    ],
    tables: [
      {
        title: 'Most memory in a step',
        columns: ['', 'MiB'],
        rows: [
          ['block by block', mebibytes(blockwise.peakBytes)],
          ['at once', mebibytes(atOnce.peakBytes)],
        ],
      },
    ],
    requirements: [
      {
        what: 'memory of a step block by block, by that of one at once',
        value: blockwise.peakBytes / atOnce.peakBytes,
        unit: '×',
        atMost: 0.5,
      },
      {
        what: 'largest difference of a gradient, by the largest gradient, in millionths',
        value: (1e6 * apart) / largest,
        unit: '',
        atMost: 1,
      },
    ],
  }
}

async function observe<T>(
  action: () => Promise<T>,
  rounds: number,
): Promise<{ result: T; peakBytes: number; ms: number[] }> {
  const { privateBytes, fileBytes } = readMemory()
  forgetPeak()
  const result = await action()
  const peakBytes = readPeakBytes() - privateBytes - fileBytes
  const ms: number[] = []
  for (let round = 0; round < rounds; round++) ms.push(await timed(action))
  return { result, peakBytes, ms }
}

type Floats = Tensor<'float32'>
type Feeds = Readonly<Record<string, Floats>>

const floatsOf = (outputs: Readonly<Record<string, Tensor>>): Record<string, Floats> =>
  Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => {
      if (tensor.dtype !== 'float32') throw new TypeError(`${name} is ${tensor.dtype}`)
      return [name, tensor]
    }),
  )

/** One step, of a run that has written its gradients `into`. */
function optimiser(weights: ReadonlyMap<string, Float32Array>) {
  const gradients = new Map([...weights].map(([key, { length }]) => [key, new Float32Array(length)]))
  const average = new Map([...weights].map(([key, data]) => [key, data.slice()]))
  const state = startAdamW(weights)
  return {
    into: Object.fromEntries([...gradients].map(([key, data]) => [gradientName(key), data])),
    step: () => {
      const scale = clipFactor(globalNorm(gradients), 0.01)
      stepAdamW(weights, state, { gradients, scale, learningRate: 2e-5 }, defaultAdamW)
      updateAverage(average, weights, 0.9999)
    },
  }
}

/** Numbers between −0.1 and 0.1 that the seed decides. */
function noise(dims: readonly number[], seed: number): Tensor<'float32'> {
  let state = (seed * 2654435761 + 97) >>> 0
  const length = dims.reduce((a, b) => a * b, 1)
  const data = Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1) / 10
  })
  return float32(data, ...dims)
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await action()
  return performance.now() - startedMs
}
