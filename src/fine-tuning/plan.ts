/**
 * Pure: what a job will take, before it is run. Time comes from what serving measured of the same model, by a factor, or from what an
 * earlier job's steps took; memory and disk from what the model's weights hold.
 */
import type { TrainingCosts } from '../engine/pool.ts'
import { heldOutCount } from '../training/data/selection.ts'
import { loraFootprint, type ModelFootprint } from '../training/footprint.ts'
import type { TrainingMethod, TrainingStage } from '../training/job.ts'
import { footprint as usageFootprint, type Footprint, type Rates } from '../energy/footprint.ts'
import { stepsOf, type JobParameters } from './specification.ts'

export interface StagePlan {
  readonly stage: number
  /** Rows of a micro-step. */
  readonly microBatch: number
  readonly microStepMs: number
  /** Steps alone. */
  readonly deviceMs: number
  /** By a job of the same kind, or from the cost of serving. */
  readonly basis: 'measured' | 'estimated'
  readonly memory: MemoryPlan
  /** What the weights of a micro-step are moved to a device with memory of its own, and the gradients back. */
  readonly crossingBytes: number
}

export interface MemoryPlan {
  /** Of what is trained: weights, the sum of gradients, AdamW's two moments, and the average. */
  readonly weightBytes: number
  readonly gradientBytes: number
  readonly momentBytes: number
  readonly averageBytes: number
  readonly activationBytes: number
  /** Frozen weights, read from the files where serving reads them. */
  readonly mappedBytes: number
  /** All but the mapped ones. */
  readonly totalBytes: number
}

export interface JobPlan {
  readonly steps: number
  readonly pictures: number
  readonly parameters: { readonly total: number; readonly trained: number }
  readonly stages: readonly StagePlan[]
  /** Pictures and texts that are encoded once, before the stages that see them. */
  readonly prepareMs: number
  readonly samplesMs: number
  readonly deviceMs: number
  /** Over the devices, while no requests come. */
  readonly expectedMs: number
  /** Of the stage that takes most. */
  readonly peakBytes: number
  readonly limitBytes: number
  readonly disk: {
    readonly checkpointBytes: number
    readonly checkpoints: number
    readonly cacheBytes: number
    readonly totalBytes: number
  }
  readonly use: Footprint
  readonly warnings: readonly string[]
}

export interface PlanInput {
  readonly parameters: JobParameters
  readonly footprint: ModelFootprint
  readonly costs: TrainingCosts
  readonly pictures: number
  readonly maxMicroStepMs: number
  readonly rates: Rates
  /** Of jobs on the same model, newest first. */
  readonly measured: readonly MeasuredStage[]
}

/** What a stage's steps took. */
export interface MeasuredStage {
  readonly method: TrainingMethod['kind']
  readonly stage: TrainingStage
  /** Device time of one. */
  readonly stepMs: number
}

/** A training step against the forward pass of serving, optimiser included; block by block computes each forward again. */
const stepFactor = { none: 3.5, blocks: 3.5 * 1.35 }
/** Encoding a picture against decoding one: the encoder has two of each level's blocks where the decoder has three. */
const encodeToDecode = 0.6
/** Kept for each row · token and layer until the gradients: states, q, k, v, attention's and the feed-forward's results, in widths. */
const keptWidths = 34
/** And attention's scores and what comes of them, for each head and other token. */
const keptScores = 3
/** Of a VAE stage, for each pixel and channel of its first level. */
const vaeBytesPerPixelChannel = 600
const float = 4
const textTokens = 120
const latentChannels = 4

export function planJob(input: PlanInput): JobPlan {
  const { parameters, footprint, costs, pictures, rates } = input
  const stages = parameters.stages.map((stage, index) => planStage(stage, index, input))
  const steps = stepsOf(parameters)
  const prepareMs = prepareTime(input)
  const samplesMs = samplesTime(input)
  const trainMs = stages.reduce((sum, { deviceMs }) => sum + deviceMs, 0)
  const deviceMs = trainMs + prepareMs + samplesMs
  const disk = planDisk(input)
  const peakBytes = Math.max(...stages.map(({ memory }) => memory.totalBytes))
  const joules = (rates.watts * deviceMs) / 1000
  return {
    steps,
    pictures,
    parameters: {
      total: footprint.transformer.parameters + footprint.textEncoder.parameters + footprint.vae.parameters,
      trained: Math.max(...parameters.stages.map((stage) => trainedParameters(stage, input))),
    },
    stages,
    prepareMs,
    samplesMs,
    deviceMs,
    expectedMs: prepareMs + samplesMs + trainMs / Math.max(1, costs.devices),
    peakBytes,
    limitBytes: costs.limitBytes,
    disk,
    use: usageFootprint({ deviceMs, joules }, rates),
    warnings: warningsOf(input, stages, peakBytes),
  }
}

function planStage(stage: TrainingStage, index: number, input: PlanInput): StagePlan {
  const { maxMicroStepMs } = input
  const measured = measuredTime(stage, input)
  const rowMs = (rows: number) => measured?.(rows) ?? microStepTime(stage, rows, input)
  const microBatch =
    divisors(stage.batchSize)
      .filter((rows) => rowMs(rows) <= maxMicroStepMs)
      .at(-1) ?? 1
  const microStepMs = rowMs(microBatch)
  return {
    stage: index,
    microBatch,
    microStepMs,
    deviceMs: stage.steps * (stage.batchSize / microBatch) * microStepMs,
    basis: measured ? 'measured' : 'estimated',
    memory: planMemory(stage, microBatch, input),
    crossingBytes: input.parameters.method.kind === 'lora' ? 0 : 2 * float * trainedParameters(stage, input),
  }
}

const divisors = (whole: number): number[] =>
  Array.from({ length: whole }, (_, index) => index + 1).filter((divisor) => whole % divisor === 0)

const line = ({ baseMs, perUnitMs }: TrainingCosts['step'], units: number): number =>
  baseMs + perUnitMs * units

const decodeTime = ({ decode }: TrainingCosts, latentPixels: number): number =>
  decode.reduce((sum, part) => sum + line(part, latentPixels), 0)

function microStepTime(stage: TrainingStage, rows: number, { costs, footprint }: PlanInput): number {
  const tokens = tokensOf(stage, footprint)
  if (stage.kind === 'vae')
    return stepFactor.none * (1 + encodeToDecode) * rows * decodeTime(costs, latentPixelsOf(stage, footprint))
  const transformer = line(costs.step, rows * tokens)
  const text = stage.trainTextEncoder ? line(costs.encode, rows) : 0
  return stepFactor[stage.recompute] * (transformer + text)
}

/** What decides the time of a picture, in a stage of another job as well. */
const sameWork = (one: TrainingStage, other: TrainingStage): boolean =>
  one.resolution === other.resolution &&
  one.recompute === other.recompute &&
  one.precision === other.precision &&
  one.trainTextEncoder === other.trainTextEncoder &&
  (one.kind === 'vae') === (other.kind === 'vae')

/** @returns the time of so many rows by the newest stage of the same kind */
function measuredTime(
  stage: TrainingStage,
  { measured, parameters: { method } }: PlanInput,
): ((rows: number) => number) | undefined {
  const same = measured.find((one) => one.method === method.kind && sameWork(stage, one.stage))
  return same && ((rows) => (rows * same.stepMs) / same.stage.batchSize)
}

const tokensOf = ({ resolution }: TrainingStage, { pixelsPerToken }: ModelFootprint): number =>
  (resolution / pixelsPerToken) ** 2

const latentPixelsOf = ({ resolution }: TrainingStage, { pixelsPerLatent }: ModelFootprint): number =>
  (resolution / pixelsPerLatent) ** 2

function trainedParameters(stage: TrainingStage, { parameters: { method }, footprint }: PlanInput): number {
  if (stage.kind === 'vae') return footprint.vae.parameters
  if (method.kind === 'lora') return loraFootprint(footprint, method).parameters
  return footprint.transformer.parameters + (stage.trainTextEncoder ? footprint.textEncoder.parameters : 0)
}

function planMemory(stage: TrainingStage, rows: number, input: PlanInput): MemoryPlan {
  const { footprint, parameters } = input
  const bytes = float * trainedParameters(stage, input)
  const plan = {
    weightBytes: bytes,
    // The sum, and what the micro-step adds to it.
    gradientBytes: 2 * bytes,
    momentBytes: 2 * bytes,
    averageBytes: bytes,
    activationBytes: activationBytes(stage, rows, footprint),
  }
  return {
    ...plan,
    mappedBytes: parameters.method.kind === 'lora' ? footprint.transformer.sizeBytes : 0,
    totalBytes: Object.values(plan).reduce((sum, each) => sum + each, 0),
  }
}

function activationBytes(stage: TrainingStage, rows: number, footprint: ModelFootprint): number {
  const { layers, width, heads } = footprint.transformer
  if (stage.kind === 'vae')
    return rows * stage.resolution ** 2 * footprint.vae.channels * vaeBytesPerPixelChannel
  const tokens = tokensOf(stage, footprint)
  const rowTokens = rows * tokens
  const block = float * rowTokens * (keptWidths * width + keptScores * heads * (tokens + textTokens))
  switch (stage.recompute) {
    case 'none':
      return layers * block
    case 'blocks':
      return block + layers * float * rowTokens * width
  }
}

/** Latents once for each resolution, texts once. */
function prepareTime({ parameters, costs, footprint, pictures }: PlanInput): number {
  const stages = parameters.stages.filter(({ kind }) => kind !== 'vae')
  const resolutions = new Map(stages.map((stage) => [stage.resolution, stage]))
  const latents = [...resolutions.values()].map(
    (stage) => pictures * encodeToDecode * decodeTime(costs, latentPixelsOf(stage, footprint)),
  )
  const needsText = stages.some(
    ({ condition, trainTextEncoder }) => condition === 'text' && !trainTextEncoder,
  )
  const texts = needsText ? pictures * line(costs.encode, 1) : 0
  return latents.reduce((sum, ms) => sum + ms, texts)
}

function samplesTime({ parameters, costs, footprint }: PlanInput): number {
  const { every, prompts, steps } = parameters.samples
  return parameters.stages
    .filter(({ kind }) => kind !== 'vae')
    .reduce((sum, stage) => {
      const times = Math.floor(stage.steps / every) + (stage.steps % every === 0 ? 0 : 1)
      const picture =
        steps * line(costs.step, 2 * tokensOf(stage, footprint)) +
        line(costs.encode, 1) +
        decodeTime(costs, latentPixelsOf(stage, footprint))
      return sum + times * prompts.length * picture
    }, 0)
}

function planDisk(input: PlanInput): JobPlan['disk'] {
  const { parameters, footprint, pictures } = input
  const { stages, checkpointEvery, keepCheckpoints } = parameters
  const trained = Math.max(...stages.map((stage) => trainedParameters(stage, input)))
  // Weights, two moments and the average.
  const checkpointBytes = 4 * float * trained
  const between = Math.max(...stages.map(({ steps }) => Math.ceil(steps / checkpointEvery) - 1))
  const checkpoints = stages.length + Math.min(keepCheckpoints, between)
  const resolutions = new Map(stages.map((stage) => [stage.resolution, stage]))
  // Mean and variance.
  const latents = [...resolutions.values()].map(
    (stage) => 2 * float * latentChannels * latentPixelsOf(stage, footprint),
  )
  const texts = float * textTokens * footprint.captionWidth
  const cacheBytes = pictures * latents.reduce((sum, bytes) => sum + bytes, texts)
  // One more while it is written.
  const totalBytes = (checkpoints + 1) * checkpointBytes + cacheBytes
  return { checkpointBytes, checkpoints, cacheBytes, totalBytes }
}

function warningsOf(
  { parameters, costs, maxMicroStepMs, pictures }: PlanInput,
  stages: readonly StagePlan[],
  peakBytes: number,
): readonly string[] {
  const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`
  const crossing = Math.max(...stages.map(({ crossingBytes }) => crossingBytes))
  const longest = Math.max(...stages.map(({ microStepMs }) => microStepMs))
  const held = heldOutCount(pictures, parameters.heldOutShare)
  return [
    ...(peakBytes > costs.limitBytes
      ? [
          `it takes ${mib(peakBytes)}, and a device has ${mib(costs.limitBytes)}; a LoRA or recompute "blocks" takes less`,
        ]
      : []),
    ...(longest > maxMicroStepMs
      ? [
          `a micro-step of one picture takes ${Math.round(longest)} ms, more than the ${maxMicroStepMs} ms that requests should wait`,
        ]
      : []),
    ...(crossing >= 2 ** 30
      ? [
          `${mib(crossing)} cross to a device with memory of its own at every micro-step; a LoRA's base stays there`,
        ]
      : []),
    ...(held === 0 ? ['no pictures are held out, so that nothing tells whether a stage learned'] : []),
  ]
}
