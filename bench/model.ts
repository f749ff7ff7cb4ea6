/** The components of a model of the published shapes: what they take to load and to hold, and how near to the hardware they run. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { preset, presetNames, type Preset, type PresetName } from '../src/models/presets.ts'
import { writeQuantisedCheckpoint } from '../src/models/quantised-checkpoint.ts'
import { writeSyntheticCheckpoint } from '../src/models/synthetic-checkpoint.ts'
import { openCheckpoint } from '../src/weights/checkpoint.ts'
import { componentNames, stepAt, type ComponentName, type ComponentOptions } from './model/components.ts'
import type { Measured, MeasuredCall, Task } from './model/measure.ts'
import {
  summarise,
  type Benchmark,
  type Figure,
  type Report,
  type Requirement,
  type Table,
} from './report.ts'
import { temporaryFolder } from './temporary-folder.ts'

type Options = {
  readonly preset: PresetName
  readonly depth: number
  readonly textDepth: number
  readonly threads: number
  readonly weights: WeightType
  readonly prepacking: boolean
  readonly profile: boolean
  readonly large: boolean
}

const weightTypes = ['float32', 'int8', 'int4'] as const
type WeightType = (typeof weightTypes)[number]

const published = { depth: 28, textDepth: 24 }

export const model: Benchmark<Options> = {
  name: 'model',
  description: 'load time, memory and speed of each component of a model of the published shapes',
  options: {
    preset: {
      description: 'the published checkpoint whose shapes it has',
      fallback: 'pixart-xl-2-512',
      choices: presetNames,
    },
    depth: { description: `transformer blocks (the published one has ${published.depth})`, fallback: 2 },
    textDepth: {
      description: `layers of the text encoder (the published one has ${published.textDepth})`,
      fallback: 2,
    },
    threads: { description: 'threads of the library; 0 takes one per core', fallback: 0 },
    weights: {
      description: 'how the matrices of text encoder and transformer are stored',
      fallback: 'float32',
      choices: weightTypes,
    },
    prepacking: {
      description: 'also measure without prepacked weights: what it spends in memory and wins in time',
      fallback: false,
    },
    profile: { description: 'show where the time goes instead, by operator and layer', fallback: false },
    large: { description: 'also decode at 1024 px', fallback: false },
  },
  async run({ preset: name, depth, textDepth, threads, weights, prepacking, profile, large }, tell) {
    const folder = temporaryFolder()
    tell('writing a checkpoint of random weights')
    const checkpoint = await writeCheckpoint(folder, { ...preset(name, { depth, textDepth }), weights })
    await warmPageCache(checkpoint)
    const options: ComponentOptions = { checkpoint, published, large, threads, provider: 'cpu' }
    const measureAll = async (changed: Partial<ComponentOptions>, note: string): Promise<Results> => {
      const results: [ComponentName, Measured][] = []
      for (const component of componentNames) {
        tell(`${component}${note}`)
        results.push([component, await measureApart({ ...options, ...changed, component })])
      }
      return new Map(results)
    }
    const shapes = `Random weights in ${weights}, in the shapes of ${name}: ${depth} of ${published.depth} transformer blocks, ${textDepth} of ${published.textDepth} layers of the text encoder.`
    if (profile) {
      const results = await measureAll({ profile: join(folder, 'profiles') }, ', profiled')
      return { method: [shapes, ...profileMethod], figures: [], tables: profileTables(results) }
    }
    const packed = await measureAll({}, '')
    const unpacked = prepacking
      ? await measureAll({ prepacking: 'off' }, ' without prepacked weights')
      : undefined
    const tables = unpacked ? [prepackingTable(weights, packed, unpacked)] : []
    return report(shapes, packed, tables)
  },
}

type Results = ReadonlyMap<ComponentName, Measured>

const tokenizer = fileURLToPath(new URL('../models/tiny/tokenizer', import.meta.url))
const processFile = fileURLToPath(new URL('model/process.ts', import.meta.url))

/** @returns its folder */
async function writeCheckpoint(
  folder: string,
  { weights, ...configs }: Preset & { readonly weights: WeightType },
): Promise<string> {
  const inFull = join(folder, 'float32')
  await writeSyntheticCheckpoint(inFull, { ...configs, tokenizer, seed: 1 })
  if (weights === 'float32') return inFull
  const inBlocks = join(folder, weights)
  const format = { bits: weights === 'int4' ? 4 : 8, blockSize: 32 } as const
  const plan = { text_encoder: format, transformer: format }
  await writeQuantisedCheckpoint(await openCheckpoint(inFull), inBlocks, plan)
  return inBlocks
}

async function measureApart(task: Task): Promise<Measured> {
  const child = fork(processFile, {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const ended = new AbortController()
  child.once('exit', () =>
    ended.abort(new Error(`the process of the ${task.component} ended without an answer`)),
  )
  child.send(task)
  const [measured] = (await once(child, 'message', { signal: ended.signal })) as [Measured]
  return measured
}

/** Reads all of it once, so that loading is not the disk's time. */
async function warmPageCache(checkpoint: string): Promise<void> {
  for (const path of await readdir(checkpoint, { recursive: true })) {
    if (!path.endsWith('.safetensors')) continue
    for await (const _ of createReadStream(join(checkpoint, path), { highWaterMark: 2 ** 22 }));
  }
}

const method = [
  'Each component in a process of its own. Load: sessions from configurations and mapped weights, the page cache warm. Private memory and mapped files: what loading added; peak: what the first call added to that.',
  'Times are medians after one call to warm up. An operation is a multiplication or an addition of a matrix product or convolution; nothing else is counted.',
  'Floor: the same matrix products alone in a graph of their own, run in turns with the call: those of the linear layers, with the same weights and without biases, and both of each attention (query · keyᵀ, weights · value) as MatMuls over all heads, at 1024 px by blocks of 256 queries.',
  'At the published depth: the time by the operations that it would have, at the same rate.',
]

function report(shapes: string, results: Results, more: readonly Table[]): Report {
  const calls = callsOf(results)
  const figures = calls.flatMap(({ component, call }): Figure[] => {
    const name = `${component}: ${call.name}`
    const floor: Figure = { name: `${name}, floor`, unit: 'ms', values: call.floorMs }
    return [{ name, unit: 'ms', values: call.ms }, ...(call.floorMs.length > 0 ? [floor] : [])]
  })
  return {
    method: [shapes, ...method],
    figures,
    tables: [loadTable(results), callTable(calls), ...more],
    requirements: requirements(calls),
  }
}

interface NamedCall {
  readonly component: ComponentName
  readonly call: MeasuredCall
}

const callsOf = (results: Results): readonly NamedCall[] =>
  [...results].flatMap(([component, { calls }]) => calls.map((call) => ({ component, call })))

const loadTable = (results: Results): Table => ({
  title: 'Loading',
  columns: ['component', 'load, ms', 'private, MiB', 'mapped files, MiB'],
  rows: [...results].map(([component, { loadMs, loaded }]) => [
    component,
    loadMs.toFixed(0),
    mebibytes(loaded.privateBytes),
    mebibytes(loaded.fileBytes),
  ]),
})

function callTable(calls: readonly NamedCall[]): Table {
  return {
    title: 'Calls',
    columns: [
      'component',
      'call',
      'shape',
      'ms',
      'GFLOP/s',
      'floor, ms',
      'floor ÷ call',
      'rate',
      'peak, MiB',
      'at the published depth, ms',
    ],
    rows: calls.map(({ component, call }) => {
      const { name, shape, yields, operations, wholeOperations, peakBytes, floorMs } = call
      const ms = medianOf(call)
      const rate = yields ? `${((1000 * yields.amount) / ms).toPrecision(3)} ${yields.unit}/s` : ''
      const floor = floorMs.length > 0 ? summarise(floorMs).median : undefined
      return [
        component,
        name,
        shape,
        ms.toFixed(1),
        (operations / ms / 1e6).toFixed(0),
        floor?.toFixed(1) ?? '',
        floor ? (floor / ms).toFixed(2) : '',
        rate,
        mebibytes(peakBytes),
        ((ms * wholeOperations) / operations).toFixed(0),
      ]
    }),
  }
}

function requirements(calls: readonly NamedCall[]): readonly Requirement[] {
  const step = calls.find(({ call }) => call.name === stepAt(512))?.call
  if (!step || step.floorMs.length === 0) return []
  const value = summarise(step.floorMs).median / medianOf(step)
  return [{ what: 'matrix products of a step at 512 px ÷ the step', value, unit: '×', atLeast: 0.75 }]
}

/** Of the two, `packed` is what serving does. */
function prepackingTable(weights: WeightType, packed: Results, unpacked: Results): Table {
  return {
    title: 'Prepacked weights against weights as they are mapped',
    columns: [
      'weights',
      'component',
      'call',
      'packed, ms',
      'mapped, ms',
      'mapped ÷ packed',
      'packed, private MiB',
      'mapped, private MiB',
    ],
    rows: callsOf(packed).map(({ component, call }) => {
      const mapped = unpacked.get(component)!
      const same = mapped.calls.find(({ name }) => name === call.name)!
      const [ms, mappedMs] = [medianOf(call), medianOf(same)]
      const privateMib = ({ loaded }: Measured): string => mebibytes(loaded.privateBytes)
      return [
        component === 'VAE decoder' ? 'convolutions, float32' : `linear layers, ${weights}`,
        component,
        call.name,
        ms.toFixed(1),
        mappedMs.toFixed(1),
        (mappedMs / ms).toFixed(2),
        privateMib(packed.get(component)!),
        privateMib(mapped),
      ]
    }),
  }
}

const medianOf = ({ ms }: MeasuredCall): number => summarise(ms).median

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0)

const profileMethod = [
  'Milliseconds of one call within operators, from the profile that the library writes; profiling itself slows small operators.',
]

const shownLayers = 20

function profileTables(results: Results): readonly Table[] {
  return callsOf(results).flatMap(({ component, call: { name, profile } }): Table[] => {
    const { byOperator, byLayer } = profile!
    const total = [...byOperator.values()].reduce((a, b) => a + b, 0)
    const rows = (sums: ReadonlyMap<string, number>) =>
      [...sums].map(([what, ms]) => [what, ms.toFixed(2), ((100 * ms) / total).toFixed(1)])
    const title = `${component}, ${name}: ${total.toFixed(1)} ms`
    return [
      { title, columns: ['operator', 'ms', '%'], rows: rows(byOperator) },
      { title: '', columns: ['layer and operator', 'ms', '%'], rows: rows(byLayer).slice(0, shownLayers) },
    ]
  })
}
