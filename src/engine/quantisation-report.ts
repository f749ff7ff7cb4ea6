/**
 * What a quantisation costs end to end: hidden states, final latents and pixels against the checkpoint that it was made from.
 *
 * Legend: B prompts, T text tokens, D text width, C latent channels, h × w latent pixels, H × W pixels.
 */
import { preparePrompt } from '../text/prompt.ts'
import { maxPromptTokens } from '../models/components.ts'
import { Model, type ModelOptions } from './model.ts'
import { Pipeline } from './pipeline.ts'

export interface Difference {
  readonly cosine: number
  /** √(Σ(a − b)² / Σb²) against the original b. */
  readonly relativeError: number
}

export interface QuantisationReport {
  /** Of the prompts' own tokens; what stands for padding is masked out later. */
  readonly hiddenStates: Difference
  readonly latents: Difference
  /** Without a figure when they are equal: it would be infinite, which JSON has no number for. */
  readonly pixels: { readonly psnrDb?: number }
  readonly prompts: number
  readonly steps: number
  readonly width: number
  readonly height: number
}

export interface ReportSettings {
  readonly prompts: readonly string[]
  readonly steps: number
  /** Of the pictures' sides; the model's own size when it is smaller. */
  readonly maxPixelsPerSide: number
  /** Ends the work between two pictures. */
  readonly signal?: AbortSignal
}

const usual: ReportSettings = {
  prompts: [
    'a red cat on a windowsill',
    'Two blue birds over a lake at dawn, oil on canvas',
    'a small robot reading a newspaper in a cafe, wide shot, soft light, 35 mm',
  ],
  steps: 4,
  maxPixelsPerSide: 512,
}

interface Outcome {
  readonly hidden: Float32Array
  readonly latents: Float32Array
  readonly pixels: Uint8Array
}

/**
 * Runs both checkpoints, one after the other, with equal noise.
 * @throws whatever opening, loading or running a model throws
 */
export async function reportQuantisation(
  folders: { readonly original: string; readonly quantised: string },
  options: ModelOptions,
  settings: Partial<ReportSettings> = {},
): Promise<QuantisationReport> {
  const { prompts, steps, maxPixelsPerSide, signal } = { ...usual, ...settings }
  const outcomes: (readonly Outcome[])[] = []
  let side = 0
  for (const folder of [folders.original, folders.quantised]) {
    const model = await Model.open('model', folder, options)
    side = Math.min(model.description.baseSize, maxPixelsPerSide)
    const pipeline = new Pipeline(model, { promptBytes: 0, contextBytes: 0 })
    await model.load()
    const ofThis: Outcome[] = []
    try {
      for (const [index, prompt] of prompts.entries()) {
        signal?.throwIfAborted()
        ofThis.push(await paint(pipeline, { prompt, side, steps, seed: index }))
      }
    } finally {
      await model.unload()
    }
    outcomes.push(ofThis)
  }
  const [original = [], quantised = []] = outcomes
  const joined = (part: 'hidden' | 'latents' | 'pixels', of: readonly Outcome[]) =>
    Float32Array.from(of.flatMap((outcome) => Array.from(outcome[part])))
  const psnrDb = psnr(joined('pixels', quantised), joined('pixels', original))
  const difference = (part: 'hidden' | 'latents') => compare(joined(part, quantised), joined(part, original))
  return {
    hiddenStates: difference('hidden'),
    latents: difference('latents'),
    pixels: Number.isFinite(psnrDb) ? { psnrDb } : {},
    prompts: prompts.length,
    steps,
    width: side,
    height: side,
  }
}

async function paint(
  pipeline: Pipeline,
  { prompt, side, steps, seed }: { prompt: string; side: number; steps: number; seed: number },
): Promise<Outcome> {
  const { model } = pipeline
  const request = {
    prompt,
    negativePrompt: '',
    cleanCaption: false,
    steps,
    guidanceScale: 4.5,
    scheduler: model.description.defaultScheduler,
  }
  const text = model.tokenizer.encode(preparePrompt(prompt, request), maxPromptTokens)
  const tokens = text.mask.reduce((sum, each) => sum + each, 0)
  const prepared = pipeline.prepareAt({ width: side, height: side }, request)
  const [rows = []] = await pipeline.encode([prepared])
  const all = rows.at(-1)!.hidden // (T, D)
  const denoising = pipeline.begin(prepared, rows, request, { kind: 'seed', seed, index: 0 })
  while (denoising.step < denoising.solver.steps) await pipeline.step([denoising])
  let image = pipeline.decoderInput(denoising)
  for (let part = 0; part < model.decoderParts; part++)
    [image = image] = await pipeline.decodePart(part, [image])
  return {
    hidden: all.slice(0, (all.length / maxPromptTokens) * tokens),
    latents: pipeline.latentsOf(denoising), // (C, h, w)
    pixels: pipeline.finishPixels(image, denoising), // (H, W, 3)
  }
}

export function compare(values: ArrayLike<number>, reference: ArrayLike<number>): Difference {
  let [squares, referenceSquares, products, errors] = [0, 0, 0, 0]
  for (let i = 0; i < reference.length; i++) {
    const [a, b] = [values[i]!, reference[i]!]
    squares += a * a
    referenceSquares += b * b
    products += a * b
    errors += (a - b) ** 2
  }
  return {
    cosine: products / Math.sqrt(squares * referenceSquares),
    relativeError: Math.sqrt(errors / referenceSquares),
  }
}

/** Peak signal-to-noise ratio of 8-bit pixels in dB; infinite when they are equal. */
export function psnr(values: ArrayLike<number>, reference: ArrayLike<number>): number {
  let squares = 0
  for (let i = 0; i < reference.length; i++) squares += (values[i]! - reference[i]!) ** 2
  return 10 * Math.log10((255 ** 2 * reference.length) / squares)
}
