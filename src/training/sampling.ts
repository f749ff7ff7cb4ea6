/** Pictures of fixed prompts and seeds from a run's weights as they are, in the job's folder. */
import { randomBytes } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Bucket } from '../diffusion/buckets.ts'
import { toPixels } from '../diffusion/pixels.ts'
import type { SchedulerConfig } from '../diffusion/scheduler-config.ts'
import type { Graph } from '../graph/ir.ts'
import { parameterShapes } from '../models/parameters.ts'
import { vaeDecoderParts, vaeDownsampling, type VaeConfig } from '../models/vae.ts'
import type { TensorLocation } from '../weights/safetensors.ts'
import { temporarySuffix } from '../weights/safetensors-writer.ts'
import type { Tensor, TrainingDevice, TrainingHost, TrainingSession, TrainingUnit } from './host.ts'
import type { SamplePlan } from './job.ts'
import { denoise, denoiserGraph, type Denoiser } from './sample-latents.ts'
import type { Tensors } from './tensors.ts'

/** A component's weights, by key. */
export interface SampleWeights {
  /** Those that are fed; others than the graph's may be among them. */
  readonly trained: Tensors
  /** Where those of the graph's other parameters lie, in float32. */
  readonly frozen: (graph: Graph) => Promise<ReadonlyMap<string, TensorLocation>>
}

export interface SampleOptions {
  readonly plan: SamplePlan
  readonly denoiser: Denoiser
  /** An adapter's tensors are among the trained ones. */
  readonly denoiserWeights: SampleWeights
  readonly vae: VaeConfig
  readonly vaeWeights: SampleWeights
  readonly scheduler: SchedulerConfig
  /** In pixels; whole patches. */
  readonly size: Bucket
}

/** (height, width, 3), RGB. */
type Pixels = Uint8Array<ArrayBuffer>

/**
 * Makes all of a plan's pictures, writes them into `samples/`, each whole or not at all, and tells of each. The same weights and
 * seeds give the same files.
 * @throws {TrainingError} when a prompt of a class-conditional model is none of its classes
 */
export async function* writeSamples(
  host: TrainingDevice & Pick<TrainingHost, 'tell'>,
  { jobFolder, stage, step }: { readonly jobFolder: string; readonly stage: number; readonly step: number },
  options: SampleOptions,
): AsyncGenerator<TrainingUnit, void, void> {
  await mkdir(join(jobFolder, 'samples'), { recursive: true })
  const { width, height } = options.size
  let index = 0
  for await (const pixels of drawSamples(host, options)) {
    const { prompt, seed } = options.plan.prompts[index] ?? {}
    if (pixels && prompt !== undefined && seed !== undefined) {
      const file = `samples/${sampleName(stage, step, index)}`
      const picture = sharp(pixels, { raw: { width, height, channels: 3 } }).webp({ quality: 90 })
      await writeWhole(join(jobFolder, file), await picture.toBuffer())
      host.tell({ type: 'sample', stage, step, index, prompt, seed, file, width, height })
      index += 1
    }
    yield { kind: 'sample' }
  }
}

const sampleName = (stage: number, step: number, index: number): string => {
  const digits = (number: number, count: number): string => String(number).padStart(count, '0')
  return `${digits(stage, 2)}-${digits(step, 6)}-${digits(index, 2)}.webp`
}

async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${file}.${randomBytes(8).toString('hex')}${temporarySuffix}`
  await writeFile(temporary, bytes)
  await rename(temporary, file)
}

/**
 * The plan's pictures in their order, each when it is done, and nothing after every other step of the work. First all are denoised,
 * then all decoded, so that only one of the two models is open at a time.
 */
export async function* drawSamples(
  host: TrainingDevice,
  options: SampleOptions,
): AsyncGenerator<Pixels | undefined, void, void> {
  const { plan, denoiser, scheduler, size, vae } = options
  const latentScale = vaeDownsampling(vae)
  const finished: Float32Array[] = []
  const session = await openFed(host, denoiserGraph(denoiser, host.lowering), options.denoiserWeights)
  try {
    for (const { prompt, seed } of plan.prompts) {
      const { steps, guidanceScale } = plan
      const settings = { prompt, seed, steps, guidanceScale, scheduler, size, latentScale }
      const denoising = denoise(session, denoiser, settings)
      for (let { done, value } = await denoising.next(); ; { done, value } = await denoising.next()) {
        if (done && value) {
          finished.push(value)
          break
        }
        yield
      }
    }
  } finally {
    await session.close()
  }
  yield* decode(host, finished, options)
}

async function* decode(
  host: TrainingDevice,
  finished: readonly Float32Array[],
  { vae, vaeWeights, size }: SampleOptions,
): AsyncGenerator<Pixels | undefined, void, void> {
  const [height, width] = [size.height / vaeDownsampling(vae), size.width / vaeDownsampling(vae)]
  const parts: FedSession[] = []
  try {
    for (const graph of vaeDecoderParts(vae, host.lowering))
      parts.push(await openFed(host, graph, vaeWeights))
    for (const latents of finished) {
      let hidden: Tensor = {
        dtype: 'float32',
        data: latents.map((value) => value / vae.scalingFactor),
        dims: [1, vae.latentChannels, height, width],
      }
      for (const [number, part] of parts.entries()) {
        if (number > 0) yield
        hidden = await part.runOne(hidden)
      }
      yield toPixels(new Float32Array(hidden.data), size)
    }
  } finally {
    for (const part of parts) await part.close()
  }
}

/** A session whose trained weights need not be given at every run. */
class FedSession implements TrainingSession {
  readonly #session: TrainingSession
  readonly #graph: Graph
  readonly #fed: Readonly<Record<string, Tensor>>

  constructor(session: TrainingSession, graph: Graph, fed: Readonly<Record<string, Tensor>>) {
    this.#session = session
    this.#graph = graph
    this.#fed = fed
  }

  run(feeds: Readonly<Record<string, Tensor>>): ReturnType<TrainingSession['run']> {
    return this.#session.run({ ...feeds, ...this.#fed })
  }

  /** Of a graph with one input and one output. */
  async runOne(value: Tensor): Promise<Tensor> {
    const outputs = await this.run({ [this.#graph.inputs[0]!.name]: value })
    const { data, dims } = Object.values(outputs)[0]!
    return { dtype: 'float32', data, dims }
  }

  close(): Promise<void> {
    return this.#session.close()
  }
}

async function openFed(
  host: TrainingDevice,
  graph: Graph,
  { trained, frozen }: SampleWeights,
): Promise<FedSession> {
  const fed: Record<string, Tensor> = {}
  for (const [key, dims] of parameterShapes(graph)) {
    const data = trained.get(key)
    if (data) fed[key] = { dtype: 'float32', data, dims }
  }
  const files = await frozen(graph)
  const weights = new Map([...files].filter(([key]) => !(key in fed)))
  return new FedSession(await host.openSession(graph, { weights, buffers: 'returned' }), graph, fed)
}
