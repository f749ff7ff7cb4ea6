/**
 * Every stage of the pipeline against golden.safetensors, by the code that serves.
 *
 * Legend: B batch, N image tokens, T text tokens, C channels, h × w latent pixels, H × W pixels.
 */
import { nearestBucket } from '../../diffusion/buckets.ts'
import { createSolver } from '../../diffusion/solvers.ts'
import { maxPromptTokens } from '../../models/components.ts'
import { preparePrompt } from '../../text/prompt.ts'
import type { Pipeline } from '../pipeline.ts'
import { float32 } from '../session.ts'
import { equal, solverBound, type ServingBounds } from './bounds.ts'
import type { GoldenDescription, GoldenRun } from './golden.ts'
import { LatentBatch } from './latent-batch.ts'
import type { References } from './references.ts'

export async function compareServing(
  run: References,
  pipeline: Pipeline,
  bounds: ServingBounds,
  description: GoldenDescription,
): Promise<void> {
  await compareText(run, pipeline, bounds, description)
  await compareTransformer(run, pipeline, bounds)
  await compareVae(run, pipeline, bounds)
  await compareSolvers(run, pipeline)
  for (const [index, golden] of description.runs.entries())
    await compareRun(run, pipeline, bounds, { index, golden })
}

async function compareText(
  run: References,
  { model }: Pipeline,
  bounds: ServingBounds,
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
async function compareTransformer(
  run: References,
  { model }: Pipeline,
  bounds: ServingBounds,
): Promise<void> {
  const { pixart } = model
  const { outChannels, captionWidth, heads, headWidth } = pixart
  const width = heads * headWidth
  const shape = run.shape('transformer.latents') // (B, C, h, w)
  const [batch = 0, , height = 0, columns = 0] = shape
  const latents = new LatentBatch(pixart, shape)
  const sizes = (name: string, length: number) =>
    pixart.microConditioned ? run.input(`transformer.${name}`) : new Float32Array(length)
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
      tokens: latents.tokens(await run.input('transformer.latents')),
      coords: latents.coords(),
      mask: float32(mask.subarray(0, batch * T), batch, T),
      embedded: float32(embedded, batch, width),
      modulation: float32(modulation, batch, 6 * width),
      context: float32(context, batch, 2 * pixart.layers, T, width),
    },
    output,
  )
  await run.compare('transformer.output', latents.pictures(output), bounds.transformer)
}

async function compareVae(run: References, { model }: Pipeline, bounds: ServingBounds): Promise<void> {
  const latents = await run.input('vae.latents')
  const [batch = 0, , height = 0, width = 0] = run.shape('vae.latents')
  await run.compare('vae.decoded', await model.decode(latents, { batch, height, width }), bounds.tensors)
  const { mean, logvar } = await model.encodeImage(await run.input('vae.image'), { batch, height, width })
  await run.compare('vae.mean', mean, bounds.tensors)
  await run.compare('vae.logvar', logvar, bounds.tensors)
}

/** The solver alone, over given noise predictions. */
async function compareSolvers(run: References, { model }: Pipeline): Promise<void> {
  for (const name of run.namesUnder('solver').filter((name) => /^\d+\.end$/.test(name))) {
    const steps = Number.parseInt(name, 10)
    const prefix = `solver${steps}`
    const predictions = await run.input(`${prefix}.eps`)
    const latents = await run.input(`${prefix}.start`)
    const solver = createSolver(model.schedulerConfig.scheduler, model.schedulerConfig, steps)
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
    await run.compare(`${prefix}.end`, latents, solverBound)
  }
}

/** The whole pipeline, from a prompt and given noise to pixels. */
async function compareRun(
  run: References,
  pipeline: Pipeline,
  bounds: ServingBounds,
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
  const pixels = pipeline.finishPixels(hidden, denoising) // (H, W, 3)
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
