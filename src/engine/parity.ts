/**
 * Every stage of the pipeline against reference tensors, by the code that serves.
 *
 * Legend: B batch, N image tokens, T text tokens, C channels, h × w latent pixels, H × W pixels.
 */
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { nearestBucket } from '../diffusion/buckets.ts'
import { gridCoordinates, patchify, unpatchify } from '../diffusion/patches.ts'
import { createSolver } from '../diffusion/solvers.ts'
import { preparePrompt } from '../text/prompt.ts'
import { openSafetensors, readFloats, readTensor, type TensorLocation } from '../weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../weights/safetensors-writer.ts'
import { maxPromptTokens } from '../models/components.ts'
import { openDevice } from './open-device.ts'
import type { Pipeline } from './pipeline.ts'
import type { DeviceOptions } from './protocol.ts'
import { float32, type Provider } from './session.ts'

export interface Comparison {
  readonly name: string
  readonly maxAbsolute: number
  /** The largest difference by the reference's largest value. */
  readonly maxRelative: number
  readonly bound: string
  readonly isWithin: boolean
}

export interface ParityReport {
  readonly comparisons: readonly Comparison[]
  /** References that nothing was held against. */
  readonly uncompared: readonly string[]
}

type NumberArray = Float32Array | Int32Array | Uint8Array

/** What may differ, in the words of the report. */
interface Bound {
  readonly text: string
  readonly holds: (difference: {
    maxAbsolute: number
    maxRelative: number
    offByMoreThanOne: number
    meanSquare: number
  }) => boolean
}
const equal: Bound = { text: 'equal', holds: ({ maxAbsolute }) => maxAbsolute === 0 }
const tensorBound: Bound = {
  text: 'abs <= 1e-4, rel <= 2e-5',
  holds: ({ maxAbsolute, maxRelative }) => maxAbsolute <= 1e-4 && maxRelative <= 2e-5,
}
const solverBound: Bound = { text: 'rel <= 1e-5', holds: ({ maxRelative }) => maxRelative <= 1e-5 }
const pixelsBound: Bound = {
  text: '99.9 % within 1',
  holds: ({ offByMoreThanOne }) => offByMoreThanOne <= 1e-3,
}

interface Bounds {
  readonly tensors: Bound
  readonly transformer: Bound
  readonly latents: Bound
  readonly pixels: Bound
}
const exact: Bounds = {
  tensors: tensorBound,
  transformer: tensorBound,
  latents: { text: 'rel <= 5e-5', holds: ({ maxRelative }) => maxRelative <= 5e-5 },
  pixels: pixelsBound,
}
const float32Bounds: Readonly<Record<Provider, Bounds>> = {
  cpu: exact,
  cuda: exact,
  // What passes through the transformer also depends on how well the provider knows sines and cosines.
  // WGSL asks for no more than an absolute error of 2⁻¹¹ in −π … π of sin and cos; SwiftShader's are off by 2e-4.
  webgpu: {
    ...exact,
    transformer: {
      text: 'abs <= 1.5e-3, rel <= 3e-4',
      holds: ({ maxAbsolute, maxRelative }) => maxAbsolute <= 1.5e-3 && maxRelative <= 3e-4,
    },
    latents: { text: 'rel <= 5e-4', holds: ({ maxRelative }) => maxRelative <= 5e-4 },
  },
}
const hundredth: Bound = { text: 'rel <= 1e-2', holds: ({ maxRelative }) => maxRelative <= 1e-2 }
const float16Bounds: Bounds = {
  tensors: hundredth,
  transformer: hundredth,
  latents: hundredth,
  pixels: {
    text: 'PSNR >= 35 dB',
    holds: ({ meanSquare }) => 10 * Math.log10(255 ** 2 / meanSquare) >= 35,
  },
}

interface GoldenRun {
  readonly prompt: string
  readonly negative_prompt: string
  readonly requested_height: number
  readonly requested_width: number
  readonly bucket_height: number
  readonly bucket_width: number
  readonly steps: number
  readonly guidance_scale: number
}
interface GoldenDescription {
  readonly prompts: readonly string[]
  readonly runs: readonly GoldenRun[]
}

/**
 * @param folder holds checkpoint/, golden.safetensors and golden.json
 * @param options `outFile`: where to write every computed tensor, under the references' names
 * @throws when the folder is not of that form
 */
export async function runParity(
  folder: string,
  device: Omit<DeviceOptions, 'models'>,
  options: { readonly outFile?: string | undefined; readonly onNote: (message: string) => void },
): Promise<ParityReport> {
  const models = [{ name: basename(folder), folder: join(folder, 'checkpoint') }]
  const [description, { tensors }, { pipelines }] = await Promise.all([
    readDescription(join(folder, 'golden.json')),
    openSafetensors(join(folder, 'golden.safetensors')),
    openDevice({ ...device, models }, options.onNote),
  ])
  const run = new ParityRun(tensors)
  const bounds = device.precision === 'float16' ? float16Bounds : float32Bounds[device.device.provider]
  const pipeline = pipelines[0]!
  try {
    await compareText(run, pipeline, bounds, description)
    await compareTransformer(run, pipeline, bounds)
    await compareVae(run, pipeline, bounds)
    await compareSolvers(run, pipeline)
    for (const [index, golden] of description.runs.entries())
      await compareRun(run, pipeline, bounds, { index, golden })
  } finally {
    await pipeline.model.unload()
  }
  if (options.outFile !== undefined) await writeSafetensors(options.outFile, run.computed)
  return { comparisons: run.comparisons, uncompared: run.uncompared() }
}

/** Keeps the books: what was read as an input, what was computed, and how far it was off. */
class ParityRun {
  readonly comparisons: Comparison[] = []
  readonly computed = new Map<string, TensorSource>()
  readonly #references: ReadonlyMap<string, TensorLocation>
  readonly #used = new Set<string>()

  constructor(references: ReadonlyMap<string, TensorLocation>) {
    this.#references = references
  }

  has(name: string): boolean {
    return this.#references.has(name)
  }

  names(pattern: RegExp): string[] {
    return [...this.#references.keys()].filter((name) => pattern.test(name))
  }

  shape(name: string): readonly number[] {
    return this.#locate(name).shape
  }

  /** A reference that a computation starts from. */
  async input(name: string): Promise<Float32Array<ArrayBuffer>> {
    const location = this.#locate(name)
    this.#used.add(name)
    return location.dtype === 'I32' ? Float32Array.from(await this.#numbers(location)) : readFloats(location)
  }

  async compare(name: string, computed: NumberArray, bound: Bound): Promise<void> {
    const location = this.#locate(name)
    const reference = await this.#numbers(location)
    this.#used.add(name)
    this.computed.set(name, sourceOf(computed, location.shape))
    const difference = measure(computed, reference)
    const { maxAbsolute, maxRelative } = difference
    this.comparisons.push({
      name,
      maxAbsolute,
      maxRelative,
      bound: bound.text,
      isWithin: bound.holds(difference),
    })
  }

  uncompared(): string[] {
    return [...this.#references.keys()].filter((name) => !this.#used.has(name)).sort()
  }

  #locate(name: string): TensorLocation {
    const location = this.#references.get(name)
    if (!location) throw new Error(`golden.safetensors: expected a tensor ${name}, and there is none`)
    return location
  }

  async #numbers(location: TensorLocation): Promise<NumberArray> {
    const data = await readTensor(location)
    if (data instanceof Float32Array || data instanceof Int32Array || data instanceof Uint8Array) return data
    throw new Error(`golden.safetensors: expected F32, I32 or U8, got ${location.dtype}`)
  }
}

function measure(computed: NumberArray, reference: NumberArray) {
  if (computed.length !== reference.length)
    return { maxAbsolute: Infinity, maxRelative: Infinity, offByMoreThanOne: 1, meanSquare: Infinity }
  let maxAbsolute = 0
  let largest = 0
  let off = 0
  let squares = 0
  for (let i = 0; i < reference.length; i++) {
    const difference = Math.abs(computed[i]! - reference[i]!)
    // A NaN must not pass for a small difference.
    if (!(difference <= maxAbsolute)) maxAbsolute = Number.isNaN(difference) ? Infinity : difference
    if (!(difference <= 1)) off += 1
    squares += difference ** 2
    largest = Math.max(largest, Math.abs(reference[i]!))
  }
  const maxRelative = maxAbsolute === 0 ? 0 : maxAbsolute / largest
  return {
    maxAbsolute,
    maxRelative,
    offByMoreThanOne: off / reference.length,
    meanSquare: squares / reference.length,
  }
}

function sourceOf(data: NumberArray, shape: readonly number[]): TensorSource {
  if (data instanceof Float32Array) return { dtype: 'F32', shape, data }
  if (data instanceof Int32Array) return { dtype: 'I32', shape, data }
  return { dtype: 'U8', shape, data }
}

async function compareText(
  run: ParityRun,
  { model }: Pipeline,
  bounds: Bounds,
  { prompts }: GoldenDescription,
): Promise<void> {
  const length = prompts.length * maxPromptTokens
  const ids = new Int32Array(length)
  const mask = new Float32Array(length)
  for (const [index, prompt] of prompts.entries()) {
    const tokens = model.tokenizer.encode(preparePrompt(prompt, { cleanCaption: false }), maxPromptTokens)
    ids.set(tokens.ids, index * maxPromptTokens)
    mask.set(tokens.mask, index * maxPromptTokens)
  }
  await run.compare('tokens.ids', ids, equal)
  await run.compare('tokens.mask', Int32Array.from(mask), equal)
  await run.compare('text_encoder.hidden', await model.encodeText(ids, mask, prompts.length), bounds.tensors)
}

/** One call with a timestep of its own for every row; the text is that of the first prompts. */
async function compareTransformer(run: ParityRun, { model }: Pipeline, bounds: Bounds): Promise<void> {
  const { pixart } = model
  const { patchSize, inChannels, outChannels, captionWidth, heads, headWidth } = pixart
  const latents = await run.input('transformer.latents') // (B, C, h, w)
  const [batch = 0, , height = 0, columns = 0] = run.shape('transformer.latents')
  const width = heads * headWidth
  const layout = { channels: inChannels, height, width: columns, patchSize }
  const outLayout = { ...layout, channels: outChannels }
  const N = (height * columns) / patchSize ** 2
  const size = inChannels * height * columns
  const tokens = new Float32Array(latents.length) // (B, N, C·p·p)
  const coords = new Float32Array(batch * N * 2)
  const sizes = (name: string, length: number) =>
    pixart.microConditioned ? run.input(`transformer.${name}`) : new Float32Array(length)
  const positions = {
    ...layout,
    baseSize: pixart.sampleSize / patchSize,
    interpolationScale: pixart.interpolationScale,
  }
  for (let row = 0; row < batch; row++) {
    patchify(
      latents.subarray(row * size, (row + 1) * size),
      layout,
      tokens.subarray(row * size, (row + 1) * size),
    )
    coords.set(gridCoordinates(positions), row * N * 2)
  }
  const { embedded, modulation } = await model.timing(await run.input('transformer.timestep'), {
    resolution: await sizes('resolution', 2 * batch),
    aspectRatio: await sizes('aspect_ratio', batch),
  })
  const hidden = await run.input('text_encoder.hidden') // (6, T, D)
  const mask = await run.input('tokens.mask') // (6, T)
  const T = maxPromptTokens
  const contextWidth = 2 * pixart.layers * T * width
  const context = new Float32Array(batch * contextWidth)
  for (let row = 0; row < batch; row++) {
    const text = hidden.subarray(row * T * captionWidth, (row + 1) * T * captionWidth)
    context.set(await model.context(text, T), row * contextWidth)
  }
  const output = new Float32Array(batch * outChannels * height * columns)
  await model.predictNoise(
    {
      tokens: float32(tokens, batch, N, inChannels * patchSize ** 2),
      coords: float32(coords, batch, N, 2),
      mask: float32(mask.subarray(0, batch * T), batch, T),
      embedded: float32(embedded, batch, width),
      modulation: float32(modulation, batch, 6 * width),
      context: float32(context, batch, 2 * pixart.layers, T, width),
    },
    output,
  )
  const images = new Float32Array(output.length) // (B, 2·C, h, w)
  const outSize = outChannels * height * columns
  for (let row = 0; row < batch; row++) {
    unpatchify(
      output.subarray(row * outSize, (row + 1) * outSize),
      outLayout,
      images.subarray(row * outSize, (row + 1) * outSize),
    )
  }
  await run.compare('transformer.output', images, bounds.transformer)
}

async function compareVae(run: ParityRun, { model }: Pipeline, bounds: Bounds): Promise<void> {
  const latents = await run.input('vae.latents')
  const [batch = 0, , height = 0, width = 0] = run.shape('vae.latents')
  await run.compare('vae.decoded', await model.decode(latents, { batch, height, width }), bounds.tensors)
  const { mean, logvar } = await model.encodeImage(await run.input('vae.image'), { batch, height, width })
  await run.compare('vae.mean', mean, bounds.tensors)
  await run.compare('vae.logvar', logvar, bounds.tensors)
}

/** The solver alone, over given noise predictions. */
async function compareSolvers(run: ParityRun, { model }: Pipeline): Promise<void> {
  for (const name of run.names(/^solver\d+\.end$/)) {
    const prefix = name.slice(0, -'.end'.length)
    const predictions = await run.input(`${prefix}.eps`)
    const latents = await run.input(`${prefix}.start`)
    const solver = createSolver(
      model.schedulerConfig.scheduler,
      model.schedulerConfig,
      Number(prefix.slice('solver'.length)),
    )
    const history = solver.createHistory(latents.length)
    for (let step = 0; step < solver.steps; step++) {
      solver.step(
        step,
        latents,
        predictions.subarray(step * latents.length, (step + 1) * latents.length),
        history,
      )
    }
    await run.compare(`${prefix}.timesteps`, Int32Array.from(solver.timesteps), equal)
    await run.compare(name, latents, solverBound)
  }
}

/** The whole pipeline, from a prompt and given noise to pixels. */
async function compareRun(
  run: ParityRun,
  pipeline: Pipeline,
  bounds: Bounds,
  { index, golden }: { readonly index: number; readonly golden: GoldenRun },
): Promise<void> {
  const bucket = nearestBucket(pipeline.model.description.buckets, {
    width: golden.requested_width,
    height: golden.requested_height,
  })
  if (bucket.width !== golden.bucket_width || bucket.height !== golden.bucket_height) {
    const expected = `${golden.bucket_width}x${golden.bucket_height}`
    throw new Error(
      `golden.json, run ${index}: expected the bucket ${expected}, got ${bucket.width}x${bucket.height}`,
    )
  }
  const request = {
    prompt: golden.prompt,
    negativePrompt: golden.negative_prompt,
    cleanCaption: false,
    steps: golden.steps,
    guidanceScale: golden.guidance_scale,
    scheduler: pipeline.model.description.defaultScheduler,
  }
  const latents = await run.input(`run${index}.latents`)
  const prepared = pipeline.prepareAt(bucket, request)
  const [rows = []] = await pipeline.encode([prepared])
  const denoising = pipeline.begin(prepared, rows, request, { kind: 'latents', latents })
  while (denoising.step < denoising.solver.steps) await pipeline.step([denoising])
  await run.compare(`run${index}.final_latents`, pipeline.latentsOf(denoising), bounds.latents)
  const image = `run${index}.image`
  if (!run.has(image)) return
  let hidden = pipeline.decoderInput(denoising)
  for (let part = 0; part < pipeline.model.decoderParts; part++)
    [hidden = hidden] = await pipeline.decodePart(part, [hidden])
  const pixels = pipeline.finishPixels(hidden, denoising, bucket) // (H, W, 3)
  await run.compare(image, channelsFirst(pixels), bounds.pixels)
}

/** (H, W, 3) → (3, H, W) */
function channelsFirst(pixels: Uint8Array): Uint8Array {
  const plane = pixels.length / 3
  const out = new Uint8Array(pixels.length)
  for (let i = 0; i < plane; i++)
    for (let channel = 0; channel < 3; channel++) out[channel * plane + i] = pixels[3 * i + channel]!
  return out
}

async function readDescription(file: string): Promise<GoldenDescription> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    const expected = 'expected a folder with checkpoint/, golden.safetensors and golden.json'
    throw new Error(`${expected}, and ${file} cannot be read`, { cause: error })
  })
  const json: unknown = JSON.parse(text)
  const { prompts, runs } = json as Partial<GoldenDescription>
  if (!Array.isArray(prompts) || !Array.isArray(runs))
    throw new Error(`${file}: expected the lists "prompts" and "runs"`)
  return { prompts, runs }
}
