/**
 * Training of the transformer against training.safetensors: the loss and the gradients of one batch, and where five steps of AdamW
 * end. B pictures, C channels, h × w latents.
 */
import { parseSchedulerConfig } from '../../diffusion/scheduler-config.ts'
import { readPixArtConfig } from '../../models/pixart.ts'
import { defaultAdamW, startAdamW, stepAdamW } from '../../training/adamw.ts'
import { addNoise, diffusionProcess, type DiffusionProcess } from '../../training/diffusion-process.ts'
import { gradientName, transformerStep } from '../../training/gradient-graphs.ts'
import { clipFactor, globalNorm } from '../../training/gradient-sum.ts'
import { updateAverage } from '../../training/moving-average.ts'
import type { Tensors } from '../../training/tensors.ts'
import type { Checkpoint } from '../../weights/checkpoint.ts'
import { float32, type SessionOptions } from '../session.ts'
import { absoluteBound, eachBound } from './bounds.ts'
import { compareGradients, termBound, whole } from './gradients.ts'
import { LatentBatch } from './latent-batch.ts'
import type { References } from './references.ts'
import { openTrainingRuns, outputOf, readWeights, type Feeds, type TrainingRuns } from './trained-weights.ts'

/** What the reference steps were made with. */
const steps = { count: 5, learningRate: 1e-3, gradientClip: 0.5, emaDecay: 0.99 }

const historyBound = eachBound(1e-4)
const weightBound = absoluteBound(2e-5)

/**
 * Softmax takes no notice of what is added to all keys alike, so that the gradient of a key's bias is zero but for rounding errors,
 * of which AdamW makes steps of up to its learning rate, on either side.
 */
const isNoise = (key: string): boolean => key.endsWith('.to_k.bias')
const noiseBound = absoluteBound(2 * steps.count * steps.learningRate)

export async function compareTraining(
  run: References,
  { transformer, scheduler }: Pick<Checkpoint, 'transformer' | 'scheduler'>,
  options: SessionOptions,
): Promise<void> {
  const config = readPixArtConfig(transformer.config)
  const process = diffusionProcess(parseSchedulerConfig(scheduler.config))
  const latents = new LatentBatch(config, run.shape('x0'))
  const conditions = {
    coords: latents.coords(),
    text: await whole(run, 'text'),
    mask: await whole(run, 'mask'),
    ...(config.microConditioned
      ? { resolution: await whole(run, 'resolution'), aspect_ratio: await whole(run, 'aspect_ratio') }
      : {}),
  }
  const feedsOf = (noised: NoisedLatents): Feeds => ({
    ...conditions,
    ...noisedFeeds(latents, process, noised),
  })
  const weights = await readWeights(transformer)
  const training = await openTrainingRuns(transformerStep(config, process, { kind: 'variational' }), options)
  try {
    await compareBatch(run, weights, training, feedsOf)
    await compareSteps(run, weights, training, feedsOf)
  } finally {
    await training.close()
  }
}

interface NoisedLatents {
  readonly x0: Float32Array // (B, C, h, w)
  readonly noise: Float32Array // (B, C, h, w)
  readonly t: Float32Array // (B)
}

function noisedFeeds(
  latents: LatentBatch,
  process: DiffusionProcess,
  { x0, noise, t }: NoisedLatents,
): Feeds {
  const noised = new Float32Array(x0.length)
  for (const [row, part] of latents.rowsOf(x0.length).entries()) {
    const given = { clean: x0.subarray(...part), noise: noise.subarray(...part), timestep: t[row]! }
    addNoise(process, given, noised.subarray(...part))
  }
  return {
    tokens: latents.tokens(noised),
    clean: latents.tokens(x0),
    noise: latents.tokens(noise),
    timestep: float32(t, t.length),
  }
}

type FeedsOf = (noised: NoisedLatents) => Feeds

async function compareBatch(
  run: References,
  weights: Tensors,
  training: TrainingRuns,
  feedsOf: FeedsOf,
): Promise<void> {
  const batch = { x0: await run.input('x0'), noise: await run.input('noise'), t: await run.input('t') }
  const outputs = await training.run(weights, feedsOf(batch))
  const [mse, bound] = [outputOf(outputs, 'mse'), outputOf(outputs, 'bound')]
  await run.compare('term.mse', mse, termBound)
  await run.compare('term.vb', bound, termBound)
  await run.compare(
    'term.loss',
    mse.map((value, row) => value + bound[row]!),
    termBound,
  )
  await compareGradients(run, 'grad.', outputs)
}

/** The weights are written. */
async function compareSteps(
  run: References,
  weights: Tensors,
  training: TrainingRuns,
  feedsOf: FeedsOf,
): Promise<void> {
  const [x0, noise, t] = [
    await run.input('steps.x0'),
    await run.input('steps.noise'),
    await run.input('steps.t'),
  ]
  const average: Tensors = new Map([...weights].map(([key, data]) => [key, data.slice()]))
  const state = startAdamW(weights)
  const [losses, norms] = [new Float32Array(steps.count), new Float32Array(steps.count)]
  for (let step = 0; step < steps.count; step++) {
    const own = (data: Float32Array): Float32Array => {
      const size = data.length / steps.count
      return data.subarray(step * size, (step + 1) * size)
    }
    const outputs = await training.run(weights, feedsOf({ x0: own(x0), noise: own(noise), t: own(t) }))
    const gradients = new Map([...weights.keys()].map((key) => [key, outputOf(outputs, gradientName(key))]))
    losses[step] = outputOf(outputs, 'loss')[0]!
    norms[step] = globalNorm(gradients)
    const scale = clipFactor(norms[step]!, steps.gradientClip)
    stepAdamW(weights, state, { gradients, scale, learningRate: steps.learningRate }, defaultAdamW)
    updateAverage(average, weights, steps.emaDecay)
  }
  await run.compare('steps.loss', losses, historyBound)
  await run.compare('steps.grad_norm', norms, historyBound)
  await compareWeights(run, 'after.', weights)
  await compareWeights(run, 'ema.', average)
}

async function compareWeights(run: References, prefix: string, tensors: Tensors): Promise<void> {
  for (const [key, data] of tensors) {
    const [bound, group] = isNoise(key) ? [noiseBound, '*.to_k.bias'] : [weightBound, '*']
    await run.compare(prefix + key, data, bound, prefix + group)
  }
}
