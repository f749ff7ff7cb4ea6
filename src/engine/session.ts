/**
 * One graph on one execution provider, its weights read from where they lie. The only importer of onnxruntime-node: nothing of
 * that library's types or habits is visible outside.
 */
// First, since imports are evaluated in order.
import './no-telemetry.ts'
import { dirname, relative, resolve, sep } from 'node:path'
import { env, InferenceSession, listSupportedBackends, Tensor as OrtTensor } from 'onnxruntime-node'
import type { DataType } from '../graph/data-type.ts'
import { dimensionText, evaluate, symbolName } from '../graph/dimension.ts'
import type { Graph, Input, Parameter, Type } from '../graph/ir.ts'
import { serialise, type ExternalTensor } from '../graph/serialise.ts'
import { shapeText } from '../graph/shapes.ts'
import type { TensorLocation } from '../weights/safetensors.ts'

export const providers = ['cpu', 'cuda', 'webgpu'] as const
export type Provider = (typeof providers)[number]

interface Arrays {
  float32: Float32Array
  float16: Float16Array
  int64: BigInt64Array
  int32: Int32Array
  int8: Int8Array
  uint8: Uint8Array
  bool: Uint8Array
}
export type TensorType = keyof Arrays

export type Tensor<T extends TensorType = TensorType> = {
  readonly [K in T]: { readonly dtype: K; readonly data: Arrays[K]; readonly dims: readonly number[] }
}[T]

export const float32 = (data: Float32Array, ...dims: readonly number[]): Tensor<'float32'> => ({
  dtype: 'float32',
  data,
  dims,
})

export const int32 = (data: Int32Array, ...dims: readonly number[]): Tensor<'int32'> => ({
  dtype: 'int32',
  data,
  dims,
})

export interface SessionOptions {
  readonly provider: Provider
  /** Which of the provider's devices; its own default when undefined. */
  readonly deviceIndex?: number | undefined
  /** 0 takes one per core. */
  readonly threads: number
  /** `elementary` keeps the library from fusing operators, so that a plain graph runs as it is written. */
  readonly fusion?: 'all' | 'elementary'
  /** A packed copy of every weight in private memory, which makes products faster and independent of the batch. */
  readonly prepacking?: 'on' | 'off'
  /** What a run allocates is kept for the next one, or goes back to the system at the price of new page faults. */
  readonly buffers?: 'kept' | 'returned'
  /** Where to write a profile of every run, as the start of a file name. */
  readonly profile?: string
}

/**
 * Where parameters come from, by name: a real file (no symbolic link in its path), or `input`, and the parameter is given anew at
 * every run, as an input of its name. `inputs` says that of all.
 */
export type Weights = ReadonlyMap<string, TensorLocation | 'input'> | 'inputs'

/** Those that lie in files from there, the graph's other parameters as inputs. */
export const partlyFed = (
  { parameters }: Graph,
  files: ReadonlyMap<string, TensorLocation>,
): ReadonlyMap<string, TensorLocation | 'input'> =>
  new Map(parameters.map(({ name }) => [name, files.get(name) ?? 'input']))

export interface RunOptions {
  /** Buffers to write outputs into; they must have the outputs' lengths. Those not given are allocated. */
  readonly into?: Readonly<Record<string, Float32Array>>
}

export class SessionError extends Error {
  override readonly name = 'SessionError'
  readonly code: 'provider_missing' | 'bad_weights' | 'bad_feed' | 'runtime_failed'
  constructor(code: SessionError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export class Session {
  readonly graph: Graph
  readonly #session: InferenceSession
  #computedMs = 0

  private constructor(graph: Graph, session: InferenceSession) {
    this.graph = graph
    this.#session = session
  }

  /**
   * Blocks the thread while the library loads the weights.
   * @param weights where each of the graph's parameters comes from
   * @throws {SessionError} when the provider is not there, a weight is missing or of another type or size, or loading fails
   */
  static async open(
    graph: Graph,
    weights: Weights,
    {
      provider,
      deviceIndex,
      threads,
      fusion = 'all',
      prepacking = 'on',
      buffers = 'kept',
      profile,
    }: SessionOptions,
  ): Promise<Session> {
    requireProvider(provider)
    const { folder, parameters } = placeParameters(graph, weights)
    const session = await attempt(`${graph.name} on ${provider}`, async () =>
      InferenceSession.create(serialise(graph, parameters), {
        executionProviders: [
          deviceIndex === undefined ? provider : { name: provider, deviceId: deviceIndex },
        ],
        graphOptimizationLevel: fusion === 'all' ? 'all' : 'basic',
        // Errors are thrown; printed as well they would reach the operator twice.
        logSeverityLevel: 4,
        ...(threads === 0 ? {} : { intraOpNumThreads: threads }),
        enableCpuMemArena: buffers === 'kept',
        enableMemPattern: buffers === 'kept',
        ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
        extra: {
          session: {
            model_external_initializers_file_folder_path: folder,
            // Threads that spin while they wait take the cores of every other session.
            intra_op: { allow_spinning: '0' },
            disable_prepacking: prepacking === 'on' ? '0' : '1',
          },
        },
      }),
    )
    return new Session(withParametersFed(graph, parameters), session)
  }

  /**
   * Blocks the thread until the graph has run.
   * @param feeds one tensor for every input of the graph, with equal sizes where the graph has equal symbols
   * @returns one tensor for every output
   * @throws {SessionError} naming the input that does not fit, or with what the library said
   */
  async run(
    feeds: Readonly<Record<string, Tensor>>,
    { into = {} }: RunOptions = {},
  ): Promise<Record<string, Tensor>> {
    const sizes = checkFeeds(this.graph, feeds)
    const outputs = Object.entries(this.graph.outputs)
    const fetches: Record<string, OrtTensor | null> = {}
    for (const [name, type] of outputs) {
      const buffer = into[name]
      fetches[name] =
        buffer === undefined ? null : new OrtTensor('float32', buffer, outputDims(name, type, sizes, buffer))
    }
    const inputs = Object.entries(feeds).map(([name, { dtype, data, dims }]): [string, OrtTensor] => [
      name,
      // The library's constructor has one overload a type, which a union cannot choose among.
      new OrtTensor(dtype as 'float32', data as Float32Array, dims),
    ])
    const startedMs = performance.now()
    const results = await attempt(this.graph.name, () =>
      this.#session.run(Object.fromEntries(inputs), fetches),
    ).finally(() => {
      this.#computedMs += performance.now() - startedMs
    })
    return Object.fromEntries(
      outputs.map(([name, { dtype }]) => {
        const result = results[name]
        if (result === undefined)
          throw new SessionError('runtime_failed', `${this.graph.name}: no output ${name} came`)
        const { data, dims } = result
        return [name, { dtype, data: into[name] ?? data, dims } as Tensor]
      }),
    )
  }

  /** Time that all runs so far have spent in the library. */
  get computedMs(): number {
    return this.#computedMs
  }

  /** Ends the profile, if one is being written. */
  endProfiling(): void {
    this.#session.endProfiling()
  }

  /** Frees the weights' copies and all buffers; the session cannot run again. */
  async close(): Promise<void> {
    await this.#session.release()
  }
}

/** Another one may compute other bits. */
export const libraryVersion: string = env.versions.node ?? env.versions.common

/** Providers that this installation of the library was built with. */
export function availableProviders(): Provider[] {
  const names = new Set(listSupportedBackends().map(({ name }) => name))
  return providers.filter((provider) => names.has(provider))
}

/** The library drops unknown providers silently and computes on the CPU. */
function requireProvider(provider: Provider): void {
  const available = availableProviders()
  if (available.includes(provider)) return
  throw new SessionError(
    'provider_missing',
    `execution provider ${provider}: expected one of ${available.join(', ')}, which this installation has`,
  )
}

const dataTypes: Readonly<Record<TensorLocation['dtype'], DataType>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  U8: 'uint8',
}

/** The graph as whoever runs it sees it. */
function withParametersFed(graph: Graph, places: ReadonlyMap<string, ExternalTensor | 'input'>): Graph {
  const isFed = ({ name }: Parameter): boolean => places.get(name) === 'input'
  const fed = graph.parameters.filter(isFed).map((parameter): Input => ({ ...parameter, kind: 'input' }))
  return {
    ...graph,
    inputs: [...graph.inputs, ...fed],
    parameters: graph.parameters.filter((parameter) => !isFed(parameter)),
  }
}

/** The library takes relative paths at or below one folder only: the deepest that holds all files. */
function placeParameters(
  graph: Graph,
  weights: Weights,
): { folder: string; parameters: ReadonlyMap<string, ExternalTensor | 'input'> } {
  const places = graph.parameters.map((parameter) => {
    const place = weights === 'inputs' ? 'input' : weights.get(parameter.name)
    if (place === undefined)
      throw new SessionError('bad_weights', `${graph.name}: ${parameter.name} is missing`)
    const dtype = place === 'input' ? parameter.dtype : dataTypes[place.dtype]
    if (dtype !== parameter.dtype) {
      throw new SessionError('bad_weights', `${parameter.name}: expected ${parameter.dtype}, got ${dtype}`)
    }
    return { name: parameter.name, place }
  })
  const folder = commonFolder(places.flatMap(({ place }) => (place === 'input' ? [] : [place.file])))
  const inFolder = ({ file, offset, length }: TensorLocation): ExternalTensor => ({
    location: relative(folder, file).split(sep).join('/'),
    offset,
    length,
  })
  const parameters = new Map(
    places.map(({ name, place }) => [name, place === 'input' ? place : inFolder(place)] as const),
  )
  return { folder, parameters }
}

function commonFolder(files: readonly string[]): string {
  const [first = process.cwd(), ...others] = new Set(files.map(dirname))
  return others.reduce((common, folder) => {
    let candidate = common
    while (
      folder !== candidate &&
      !folder.startsWith(candidate.endsWith(sep) ? candidate : candidate + sep)
    ) {
      candidate = resolve(candidate, '..')
    }
    return candidate
  }, first)
}

/** @returns the size that each of the graph's symbols has in these feeds, where an axis is that symbol alone */
function checkFeeds(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Record<string, number> {
  const fail = (name: string, expected: string, came: string): never => {
    throw new SessionError('bad_feed', `${graph.name}, input ${name}: expected ${expected}, got ${came}`)
  }
  const sizes: Record<string, number> = {}
  for (const { name, dtype, shape } of graph.inputs) {
    const feed = feeds[name] ?? fail(name, `${dtype} ${shapeText(shape)}`, 'nothing')
    const came = `${feed.dtype} ${shapeText(feed.dims)}`
    if (feed.dtype !== dtype || feed.dims.length !== shape.length)
      fail(name, `${dtype} ${shapeText(shape)}`, came)
    if (feed.data.length !== feed.dims.reduce((a, b) => a * b, 1))
      fail(name, came, `${feed.data.length} elements`)
    for (const [axis, dimension] of shape.entries()) {
      const size = feed.dims[axis] ?? 0
      const symbol = symbolName(dimension)
      const expected =
        typeof dimension === 'number' ? dimension : symbol === undefined ? undefined : (sizes[symbol] ?? size)
      if (expected !== undefined && expected !== size) {
        fail(name, `${dimensionText(dimension)} = ${expected} at axis ${axis} of ${shapeText(shape)}`, came)
      }
      if (symbol !== undefined) sizes[symbol] = size
    }
  }
  for (const name of Object.keys(feeds)) {
    if (!graph.inputs.some((input) => input.name === name)) fail(name, 'no such input', 'one')
  }
  return sizes
}

function outputDims(
  name: string,
  { shape }: Type,
  sizes: Readonly<Record<string, number>>,
  buffer: Float32Array,
): number[] {
  const dims = shape.map((dimension) => evaluate(dimension, sizes))
  const length = dims.reduce((a, b) => a * b, 1)
  if (length === buffer.length) return dims
  throw new SessionError(
    'bad_feed',
    `output ${name}: expected a buffer of ${length}, got one of ${buffer.length}`,
  )
}

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new SessionError('runtime_failed', `${what}: ${message}`, { cause: error })
  }
}
