/** The cost of the device's loop: its throughput at saturation against the bare calls of the library that it came down to. */
import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { bucketsFor } from '../src/diffusion/buckets.ts'
import { Loop } from '../src/engine/loop.ts'
import type { Model } from '../src/engine/model.ts'
import { openDevice } from '../src/engine/open-device.ts'
import type { ChildMessage, ImageRequest } from '../src/engine/protocol.ts'
import { writeSyntheticCheckpoint, type SyntheticCheckpoint } from '../src/models/synthetic-checkpoint.ts'
import { summarise, type Benchmark } from './report.ts'
import { servingCheckpoint } from './serving/checkpoint.ts'
import { makeTrace, stepCounts } from './serving/trace.ts'
import { temporaryFolder } from './temporary-folder.ts'

type Options = Readonly<Record<'requests' | 'rounds' | 'seed' | 'base' | 'blocks' | 'heads', number>>

const model = 'loop'
const throughput = 'throughput, by that of the bare calls'
const share = 'time within the loop that is the library’s'

export const loop: Benchmark<Options> = {
  name: 'loop',
  description: "throughput of a device's loop at saturation, against bare calls of session.run",
  options: {
    requests: { description: 'requests of a round, all there at once', fallback: 12 },
    rounds: { description: 'how often the loop and the bare calls take turns', fallback: 4 },
    seed: { description: 'decides the requests', fallback: 1 },
    base: { description: "the model's base size in pixels: 256 or 512", fallback: 256 },
    blocks: { description: "the model's transformer blocks (PixArt-XL has 28)", fallback: 4 },
    heads: { description: "the model's heads of 72 (PixArt-XL has 16)", fallback: 4 },
  },
  async run({ requests, rounds, seed, base, blocks, heads }, tell) {
    const folder = temporaryFolder()
    tell('writing a checkpoint of random weights')
    await writeSyntheticCheckpoint(join(folder, model), checkpoint({ base, blocks, heads }))
    const cacheDir = join(folder, 'cache')
    await mkdir(cacheDir)
    const models = [{ name: model, folder: join(folder, model) }]
    const device = await openDevice({ name: 'cpu', device: { provider: 'cpu' }, models, cacheDir }, tell)
    const opened = device.residency.get(model)!.model
    const outcomes = new Outcomes()
    const running = new Loop({ device: 'cpu', ...device, tell: (message) => outcomes.hear(message) })
    void running.run()

    const measured: Round[] = []
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const trace = makeTrace({ seed: seed + round, requests, model, sizes: bucketsFor(base) })
      const one = await playRound(trace.requests, { loop: running, outcomes, model: opened })
      if (round === 0) continue
      measured.push(one)
      const { loopMs, bareMs, calls } = one
      tell(`round ${round}: loop ${loopMs.toFixed(0)} ms, its ${calls} calls alone ${bareMs.toFixed(0)} ms`)
    }
    const ratios = measured.map(({ loopMs, bareMs }) => (100 * bareMs) / loopMs)
    const shares = measured.map(({ loopMs, libraryMs }) => (100 * libraryMs) / loopMs)
    return {
      method: [
        `${rounds} rounds after one to warm up: ${requests} requests there at once (${stepCounts.join(', ')} steps, ${bucketsFor(base).length} aspect ratios, most with guidance), then the same calls of session.run with nothing between them.`,
        `Model: random weights, ${blocks} blocks of ${heads} heads × 72, base size ${base}; ${availableParallelism()} threads. All in this process.`,
        'The loop draws noise, schedules, fills batches, guides, solves, decodes in parts and makes pixels of the pictures. The larger the model, the smaller its share.',
      ],
      figures: [
        { name: 'the loop', unit: 'ms', values: measured.map(({ loopMs }) => loopMs) },
        { name: 'its calls of session.run, bare', unit: 'ms', values: measured.map(({ bareMs }) => bareMs) },
        {
          name: 'within the loop, in the library',
          unit: 'ms',
          values: measured.map(({ libraryMs }) => libraryMs),
        },
        { name: throughput, unit: '%', values: ratios },
        { name: share, unit: '%', values: shares },
      ],
      // The second has no second measurement in it, so that it also holds on a machine with other work.
      requirements: [
        { what: throughput, value: summarise(ratios).median, unit: '%', atLeast: 97 },
        { what: share, value: summarise(shares).median, unit: '%', atLeast: 97 },
      ],
    }
  },
}

interface Round {
  readonly loopMs: number
  /** What the loop's calls took within it, by the sessions' own clock. */
  readonly libraryMs: number
  readonly bareMs: number
  readonly calls: number
}

async function playRound(
  requests: readonly ImageRequest[],
  { loop, outcomes, model }: { readonly loop: Loop; readonly outcomes: Outcomes; readonly model: Model },
): Promise<Round> {
  const recording = record(model)
  const computedBeforeMs = model.computedMs
  const loopMs = await timed(async () => {
    const done = requests.map(({ id }) => outcomes.of(id))
    for (const request of requests) loop.submit(request)
    await Promise.all(done)
  })
  const libraryMs = model.computedMs - computedBeforeMs
  recording.stop()
  const bareMs = await timed(async () => {
    for (const call of recording.calls) await call()
  })
  return { loopMs, libraryMs, bareMs, calls: recording.calls.length }
}

async function timed(action: () => Promise<void>): Promise<number> {
  const startedMs = performance.now()
  await action()
  return performance.now() - startedMs
}

interface Recording {
  /** Each of the model's calls, in order, on tensors of the same shapes. */
  readonly calls: readonly (() => Promise<unknown>)[]
  readonly stop: () => void
}

/** Notes what is asked of the model's sessions. */
function record(model: Model): Recording {
  const calls: (() => Promise<unknown>)[] = []
  const encodeText = model.encodeText.bind(model)
  const predictNoise = model.predictNoise.bind(model)
  const context = model.context.bind(model)
  const timing = model.timing.bind(model)
  const decodePart = model.decodePart.bind(model)
  const hiddens = new Map<string, Parameters<typeof decodePart>[1]>()
  const note = <T>(call: () => Promise<T>): Promise<T> => {
    calls.push(call)
    return call()
  }
  model.encodeText = (...of) => note(() => encodeText(...of))
  model.predictNoise = (...of) => note(() => predictNoise(...of))
  model.context = (...of) => note(() => context(...of))
  model.timing = (...of) => note(() => timing(...of))
  model.decodePart = (part, hidden) => {
    // One tensor of a shape stands for all of it, so that not every hidden state is kept.
    const key = hidden.dims.join()
    const kept = hiddens.get(key) ?? hidden
    hiddens.set(key, kept)
    calls.push(() => decodePart(part, kept))
    return decodePart(part, hidden)
  }
  return {
    calls,
    stop: () => Object.assign(model, { encodeText, predictNoise, context, timing, decodePart }),
  }
}

/** Who waits for which request. */
class Outcomes {
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>()

  of(id: string): Promise<void> {
    const outcome = Promise.withResolvers<void>()
    this.#waiting.set(id, outcome)
    return outcome.promise
  }

  hear(message: ChildMessage): void {
    if (message.type === 'succeeded') this.#waiting.get(message.id)?.resolve()
    if (message.type === 'failed') this.#waiting.get(message.id)?.reject(new Error(message.message))
  }
}

function checkpoint({
  base,
  blocks,
  heads,
}: Pick<Options, 'base' | 'blocks' | 'heads'>): SyntheticCheckpoint {
  const narrow = servingCheckpoint(base, blocks)
  const width = { num_attention_heads: heads, attention_head_dim: 72, cross_attention_dim: heads * 72 }
  return { ...narrow, transformer: { ...narrow.transformer, ...width } }
}
