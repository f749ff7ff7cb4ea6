/** What a device does once, at its start: prove its provider, choose the lowering, open the models, learn what they cost. */
import { join } from 'node:path'
import type { Limits } from './batch.ts'
import {
  CostBook,
  guessProfile,
  measureProfile,
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

export interface OpenedDevice {
  readonly pipelines: readonly Pipeline[]
  readonly residency: Residency
  /** By model name. */
  readonly books: ReadonlyMap<string, CostBook>
  readonly limits: Limits
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
  const pipelines: Pipeline[] = []
  for (const { name, folder } of models) {
    const model = await Model.open(name, folder, {
      provider,
      deviceIndex,
      threads,
      cacheDir,
      lowering,
      precision,
      memoryLimitBytes,
      onNote,
    })
    if (!model.plan.fits) {
      const [, ...reasons] = describePlan(model.plan)
      throw new Error(`ATELIER_MEMORY_LIMIT_MIB: the model ${name} does not fit; ${reasons.join('; ')}`)
    }
    const share = 1 / models.length
    pipelines.push(
      new Pipeline(model, { promptBytes: promptCacheBytes * share, contextBytes: contextCacheBytes * share }),
    )
  }
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
    books.set(model.description.name, new CostBook(profile ?? guessProfile(model)))
  }
  return { pipelines, residency, books, limits: limitsOf(pipelines.map(({ model }) => model)) }
}

/** What no model's plan forbids. */
function limitsOf(models: readonly Model[]): Limits {
  const least = (of: (model: Model) => number) => Math.min(...models.map(of))
  return {
    maxRowTokens: least(({ plan }) => plan.maxRowTokens),
    maxPrompts: least(({ plan }) => plan.maxPrompts),
    maxDecodePixels: least(({ plan, latentScale }) => plan.maxDecodePixels / latentScale ** 2),
  }
}
