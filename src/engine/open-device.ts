/** What a device does once, at its start: prove its provider, choose the lowering, open the models, learn what they cost. */
import { join } from 'node:path'
import type { Limits } from './batch.ts'
import {
  CostBook,
  guessProfile,
  measureProfile,
  profileOf,
  readProfile,
  writeProfile,
  type Profile,
} from './cost-book.ts'
import { baseBytes, contextCacheBytes, promptCacheBytes } from './memory-needs.ts'
import { describePlan } from './memory-plan.ts'
import { Model } from './model.ts'
import { Pipeline } from './pipeline.ts'
import type { DeviceOptions } from './protocol.ts'
import { checkProvider } from './provider-check.ts'
import { Residency } from './residency.ts'
import { SharedSessions } from './shared-sessions.ts'
import type { ModelFolder } from './training-protocol.ts'
import type { ProviderOptions } from './training-sessions.ts'

export interface OpenedDevice {
  readonly pipelines: readonly Pipeline[]
  readonly residency: Residency
  /** By key of the pipeline. */
  readonly books: Map<string, CostBook>
  readonly limits: Limits
  readonly provider: ProviderOptions
  /**
   * Opens one more model, of a name that may be taken. Its costs begin with what they were when it was measured, or are those of a
   * model of the same shape that is there, or guessed.
   * @throws {Error} what of it is not as it must be, or that it does not fit in the memory
   */
  readonly openModel: (model: ModelFolder) => Promise<OpenedModel>
}

export interface OpenedModel {
  readonly pipeline: Pipeline
  readonly book: CostBook
}

/** What an operator can do about a provider that does not work. */
const needs: Readonly<Record<DeviceOptions['device']['provider'], string>> = {
  cpu: 'the package onnxruntime-node is not whole: run "npm ci"',
  cuda: 'it needs an NVIDIA GPU with its driver, and ONNX Runtime\'s CUDA libraries: run "ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node"',
  webgpu: 'it needs a GPU with its Vulkan, Metal or Direct3D 12 driver',
}

/**
 * The first model is loaded, the others are opened only.
 * @param onNote hears what an operator should know: a kernel that is avoided, a conversion that takes minutes
 * @throws {Error} what of the provider or a model is not as it must be
 */
export async function openDevice(
  options: DeviceOptions,
  onNote: (message: string) => void,
): Promise<OpenedDevice> {
  const { name, device, models, cacheDir, precision = 'float32', memoryLimitBytes } = options
  const { provider, index: deviceIndex, cores } = device
  const threads = cores ? cores[1] - cores[0] + 1 : 0
  const check = await checkProvider({ provider, threads, deviceIndex, precision }).catch((error: unknown) => {
    const [reason] = (error instanceof Error ? error.message : String(error)).split('\n')
    throw new Error(`ATELIER_DEVICES: ${name} does not work here; ${needs[provider]} (${reason})`, {
      cause: error,
    })
  })
  if (check.lowering === 'plain') onNote(`${check.reason}; the plain ones are used`)
  const { lowering } = check
  const shared = new SharedSessions()
  const openPipeline = async (model: ModelFolder, key: string): Promise<Pipeline> => {
    const opened = await Model.open(model.name, model.folder, {
      provider,
      deviceIndex,
      threads,
      cacheDir,
      lowering,
      precision,
      memoryLimitBytes,
      onNote,
      shared,
    })
    if (!opened.plan.fits) {
      const [, ...reasons] = describePlan(opened.plan)
      throw new Error(`ATELIER_MEMORY_LIMIT_MIB: the model ${model.name} does not fit; ${reasons.join('; ')}`)
    }
    const share = 1 / Math.max(models.length, 1)
    const limits = { promptBytes: promptCacheBytes * share, contextBytes: contextCacheBytes * share }
    return new Pipeline(opened, limits, key)
  }
  const pipelines: Pipeline[] = []
  for (const model of models) pipelines.push(await openPipeline(model, model.name))
  const residency = new Residency(pipelines, (memoryLimitBytes ?? Infinity) - baseBytes)

  const folder = join(cacheDir, 'costs')
  const keyOf = ({ description: { version }, plan: { textEncoder } }: Model) =>
    `${version}-${name}-${lowering}-${precision}-${textEncoder}`
  const books = new Map<string, CostBook>()
  for (const [position, pipeline] of pipelines.entries()) {
    const { model } = pipeline
    let profile: Profile | undefined = await readProfile(folder, keyOf(model), model.decoderParts)
    if (position === 0) {
      const startedMs = performance.now()
      await residency.load(pipeline)
      if (!profile) {
        profile = await measureProfile(model, performance.now() - startedMs)
        await writeProfile(folder, keyOf(model), profile)
      }
    }
    books.set(pipeline.key, new CostBook(profile ?? guessProfile(model)))
  }

  let opened = 0
  const openModel = async (folderOf: ModelFolder): Promise<OpenedModel> => {
    const pipeline = await openPipeline(folderOf, `${folderOf.name} ${(opened += 1)}`)
    const { model } = pipeline
    const alike = residency.pipelines.find((other) => isAlike(other.model, model))
    const costs = alike && books.get(alike.key)?.costs
    const known = await readProfile(folder, keyOf(model), model.decoderParts)
    const profile = known ?? (costs && profileOf(costs))
    if (profile && !known) await writeProfile(folder, keyOf(model), profile)
    return { pipeline, book: new CostBook(profile ?? guessProfile(model)) }
  }
  const limits = limitsOf(() => residency.pipelines.map(({ model }) => model))
  return {
    pipelines,
    residency,
    books,
    limits,
    provider: { provider, deviceIndex, threads, lowering },
    openModel,
  }
}

/** A call of one takes as long as the same call of the other. */
function isAlike(one: Model, other: Model): boolean {
  const shapeOf = ({ pixart, vae, plan: { textEncoder }, description: { sizeBytes } }: Model): string =>
    JSON.stringify([pixart, vae, textEncoder, sizeBytes])
  return shapeOf(one) === shapeOf(other)
}

/** What no model's plan forbids, of those that are there when it is asked. */
function limitsOf(models: () => readonly Model[]): Limits {
  const least = (of: (model: Model) => number) => Math.min(...models().map(of))
  return {
    get maxRowTokens() {
      return least(({ plan }) => plan.maxRowTokens)
    },
    get maxPrompts() {
      return least(({ plan }) => plan.maxPrompts)
    },
    get maxDecodePixels() {
      return least(({ plan, latentScale }) => plan.maxDecodePixels / latentScale ** 2)
    },
  }
}
