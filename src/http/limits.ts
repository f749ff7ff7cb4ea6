/** A valid body → what the generation is asked for: defaults, the model's name, the size, the seed, and what no schema can say. */
import { randomInt } from 'node:crypto'
import type { Config } from '../config.ts'
import type { GenerationParameters } from '../generation/parameters.ts'
import type { GenerationService } from '../generation/service.ts'
import type { SchemaPictureRequest } from '../sdk/schema.ts'
import { withDefaults, type Contract } from './contract.ts'
import { ApiError } from './errors.ts'
import { describeValue } from './validation.ts'

type Model = GenerationService['models'][number]
type SchedulerName = Model['defaultScheduler']

export const minSide = 64
/** Slices of one seed that can be reached, so that every picture of a request can also be made alone. */
const maxSlices = 100

interface Limits {
  readonly contract: Contract
  readonly config: Pick<Config, 'maxSide' | 'modelAliases'>
  readonly models: readonly Model[]
}

/** @throws {ApiError} that names the field at fault */
export function readParameters(body: SchemaPictureRequest, limits: Limits): GenerationParameters {
  const { contract, config, models } = limits
  const filled = withDefaults(contract, 'PictureRequest', body, [
    'n',
    'size',
    'negative_prompt',
    'seed_index',
    'steps',
    'guidance_scale',
    'clean_caption',
    'output_format',
    'output_compression',
  ])
  if (filled.seed_index + filled.n > maxSlices) {
    const message = `seed_index: expected at most ${maxSlices - filled.n} with n ${filled.n}, got ${filled.seed_index}`
    throw new ApiError('invalid_value', message, { param: 'seed_index' })
  }
  const model = body.model == null ? firstOf(models) : resolveModel(body.model, models, config.modelAliases)
  const scheduler = body.scheduler ?? model.defaultScheduler
  checkSteps(filled.steps, scheduler, model)
  return {
    model: model.name,
    prompt: body.prompt,
    negativePrompt: filled.negative_prompt,
    ...readSize(filled.size, model, config.maxSide),
    count: filled.n,
    seed: body.seed ?? randomSeed(),
    seedIndex: filled.seed_index,
    steps: filled.steps,
    guidanceScale: filled.guidance_scale,
    scheduler,
    cleanCaption: filled.clean_caption,
    format: filled.output_format,
    compression: filled.output_compression,
  }
}

function firstOf(models: readonly Model[]): Model {
  const [model] = models
  if (!model) throw new ApiError('not_ready', 'No model is loaded yet', { headers: { 'retry-after': '1' } })
  return model
}

/**
 * @param name a model's own name or an alias; aliases mean the first model
 * @throws {ApiError} `model_not_found`; `not_ready` while no model is known
 */
export function resolveModel(name: string, models: readonly Model[], aliases: readonly string[]): Model {
  firstOf(models)
  const named = models.find((model) => model.name === aliasedModel(name, models, aliases))
  if (named) return named
  const names = [...models.map((model) => model.name), ...aliases].map((known) => JSON.stringify(known))
  throw new ApiError(
    'model_not_found',
    `model: expected one of ${names.join(', ')}, got ${describeValue(name)}`,
    { param: 'model' },
  )
}

/** @returns the name of the model that an alias means; any other name as it is */
export function aliasedModel(name: string, models: readonly Model[], aliases: readonly string[]): string {
  const isAlias = aliases.includes(name) && !models.some((model) => model.name === name)
  return isAlias ? firstOf(models).name : name
}

function readSize(size: string, model: Model, maxSide: number): { width: number; height: number } {
  if (size === 'auto') {
    const side = Math.min(model.baseSize, maxSide)
    return { width: side, height: side }
  }
  const [width = 0, height = 0] = size.split('x').map(Number)
  const fits = (side: number) => side >= minSide && side <= maxSide
  if (fits(width) && fits(height)) return { width, height }
  const message = `size: expected "auto" or "WIDTHxHEIGHT" with each side from ${minSide} to ${maxSide} pixels, got ${describeValue(size)}`
  throw new ApiError('invalid_value', message, { param: 'size' })
}

/** Some schedulers of some checkpoints take fewer steps than the contract allows: LCM no more than its teacher took. */
function checkSteps(steps: number, scheduler: SchedulerName, { schedulers }: Model): void {
  const maxSteps = schedulers.find(({ name }) => name === scheduler)?.maxSteps ?? 0
  if (steps <= maxSteps) return
  if (maxSteps === 0) {
    const names = schedulers.filter((each) => each.maxSteps > 0).map(({ name }) => name)
    const message = `scheduler: expected one of ${names.join(', ')} for this model, got ${describeValue(scheduler)}`
    throw new ApiError('invalid_value', message, { param: 'scheduler' })
  }
  const message = `steps: expected at most ${maxSteps} with the scheduler ${scheduler}, got ${steps}`
  throw new ApiError('invalid_value', message, { param: 'steps' })
}

/** @returns 53 random bits: 0 … 2^53 − 1 */
function randomSeed(): number {
  return randomInt(2 ** 32) * 2 ** 21 + randomInt(2 ** 21)
}
