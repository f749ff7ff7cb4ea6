/**
 * From noise to latents with a run's own transformer, a PixArt-α or a DiT: the same noise, solver and guidance as serving, so that the
 * model that is exported makes the same pictures.
 *
 * Legend: R rows (1, or 2 with guidance), N image tokens, P numbers of latents in a token, S numbers of output in a token, T text
 * tokens, D text width.
 */
import type { Bucket } from '../diffusion/buckets.ts'
import { guide, takeNoisePrediction } from '../diffusion/guidance.ts'
import { toNoisePrediction } from '../diffusion/prediction.ts'
import { TorchGenerator } from '../diffusion/noise.ts'
import { gridCoordinates, patchify, unpatchify, type LatentLayout } from '../diffusion/patches.ts'
import type { SchedulerConfig } from '../diffusion/scheduler-config.ts'
import { createSolver } from '../diffusion/solvers.ts'
import type { Graph } from '../graph/ir.ts'
import { dit, type DitConfig } from '../models/dit.ts'
import type { LoweringName } from '../models/lowering.ts'
import { pixart, type PixArtConfig } from '../models/pixart.ts'
import { preparePrompt } from '../text/prompt.ts'
import { TrainingError } from './errors.ts'
import type { Tensor, TrainingSession } from './host.ts'
import { withLora, type Adapter } from './lora.ts'

/** What predicts the noise, and how it is told what to paint. */
export type Denoiser =
  | {
      readonly kind: 'text'
      readonly config: PixArtConfig
      /** Of the transformer, where there is one. */
      readonly adapter?: Adapter | undefined
      /** @param prompts as they are to be tokenised */
      readonly encode: (prompts: readonly string[]) => Promise<readonly TextConditions[]>
    }
  | {
      readonly kind: 'class'
      readonly config: DitConfig
      /** A prompt is one of their names. */
      readonly classes: readonly string[]
    }

export interface TextConditions {
  readonly hidden: Float32Array // (T, D)
  readonly mask: Float32Array // (T): 1 for a token, 0 for padding
}

export interface DenoisingPlan {
  readonly prompt: string
  readonly seed: number
  readonly steps: number
  readonly guidanceScale: number
  readonly scheduler: SchedulerConfig
  /** In pixels. */
  readonly size: Bucket
  /** Pixels along one side of a latent. */
  readonly latentScale: number
}

/** What the denoiser's session runs. */
export function denoiserGraph(denoiser: Denoiser, lowering: LoweringName): Graph {
  if (denoiser.kind === 'class') return dit(denoiser.config, lowering)
  const graph = pixart(denoiser.config, lowering)
  return denoiser.adapter ? withLora(graph, denoiser.adapter) : graph
}

/**
 * Takes one step of the solver after the other.
 * @returns latents (C, h, w), still multiplied by the VAE's scaling factor
 * @throws {TrainingError} when the prompt is none of the classes
 */
export async function* denoise(
  session: Pick<TrainingSession, 'run'>,
  denoiser: Denoiser,
  plan: DenoisingPlan,
): AsyncGenerator<void, Float32Array, void> {
  const { size, latentScale, steps, guidanceScale, scheduler, seed } = plan
  const { inChannels, outChannels, patchSize, sampleSize, interpolationScale } = denoiser.config
  const layout: LatentLayout = {
    channels: inChannels,
    height: size.height / latentScale,
    width: size.width / latentScale,
    patchSize,
  }
  const area = patchSize ** 2
  const predictionLayout = { width: inChannels * area, stride: outChannels * area }
  const length = layout.channels * layout.height * layout.width
  const N = length / predictionLayout.width
  const conditions = await conditionsOf(denoiser, plan)
  const R = conditions.rows
  const coordinates = gridCoordinates({ ...layout, baseSize: sampleSize / patchSize, interpolationScale })
  const coords = float32(repeat(coordinates, R), R, N, 2)

  const solver = createSolver(scheduler.scheduler, scheduler, steps)
  const history = solver.createHistory(length)
  const generator = new TorchGenerator(seed)
  const drawn = new Float32Array(length) // (C, h, w)
  const latents = new Float32Array(length) // (N, P)
  generator.fillNormal(drawn)
  patchify(drawn, layout, latents)
  for (let i = 0; i < length; i++) latents[i] = latents[i]! * solver.initialNoiseScale

  const tokens = new Float32Array(R * length)
  const prediction = new Float32Array(length)
  for (const [step, timestep] of solver.timesteps.entries()) {
    solver.scaleModelInput(latents, step, tokens.subarray(0, length))
    tokens.copyWithin(length, 0, R === 2 ? length : 0)
    const { output } = await session.run({
      ...conditions.feeds,
      coords,
      tokens: float32(tokens, R, N, predictionLayout.width),
      timestep: float32(new Float32Array(R).fill(timestep), R),
    })
    const numbers = N * predictionLayout.stride
    const first = output!.data.subarray(0, numbers)
    if (R === 2) guide(output!.data.subarray(numbers), first, guidanceScale, predictionLayout, prediction)
    else takeNoisePrediction(first, predictionLayout, prediction)
    toNoisePrediction(scheduler.predictionType, solver, step, tokens, prediction)
    if (solver.drawsNoise(step)) {
      generator.fillNormal(drawn)
      patchify(drawn, layout, history.noise)
    }
    solver.step(step, latents, prediction, history)
    yield
  }
  unpatchify(latents, layout, drawn)
  return drawn
}

interface Conditions {
  readonly rows: 1 | 2
  /** With guidance, first those that lead away. */
  readonly feeds: Readonly<Record<string, Tensor>>
}

/** diffusers' rule: at a scale of 1 and below there is no guidance. */
async function conditionsOf(denoiser: Denoiser, plan: DenoisingPlan): Promise<Conditions> {
  const rows = plan.guidanceScale > 1 ? 2 : 1
  if (denoiser.kind === 'class') {
    const { classes, config } = denoiser
    const label = classes.indexOf(plan.prompt)
    if (label < 0)
      throw new TrainingError(
        `samples: expected the name of a class (${classes.join(', ')}), got ${plan.prompt}`,
      )
    const data = Int32Array.from(rows === 2 ? [config.classes, label] : [label])
    return { rows, feeds: { class: { dtype: 'int32', data, dims: [rows] } } }
  }
  const prompt = preparePrompt(plan.prompt, { cleanCaption: false })
  const texts = await denoiser.encode(rows === 2 ? ['', prompt] : [prompt])
  const [hidden, mask] = [
    concatenate(texts.map((text) => text.hidden)),
    concatenate(texts.map((text) => text.mask)),
  ]
  const T = mask.length / rows
  const { width, height } = plan.size
  const sizes = {
    resolution: float32(repeat(Float32Array.of(height, width), rows), rows, 2),
    aspect_ratio: float32(new Float32Array(rows).fill(height / width), rows, 1),
  }
  return {
    rows,
    feeds: {
      text: float32(hidden, rows, T, hidden.length / rows / T),
      mask: float32(mask, rows, T),
      ...(denoiser.config.microConditioned ? sizes : {}),
    },
  }
}

const float32 = (data: Float32Array, ...dims: readonly number[]): Tensor => ({ dtype: 'float32', data, dims })

const repeat = (values: Float32Array, times: number): Float32Array =>
  concatenate(Array.from({ length: times }, () => values))

function concatenate(arrays: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const array of arrays) {
    joined.set(array, at)
    at += array.length
  }
  return joined
}
