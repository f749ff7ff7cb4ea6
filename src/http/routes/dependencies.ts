/** What the routes work with. */
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { AccessService } from '../../access/service.ts'
import type { Config } from '../../config.ts'
import type { DatasetService } from '../../datasets/service.ts'
import type { FailedGeneration } from '../../generation/generation.ts'
import type { GenerationParameters } from '../../generation/parameters.ts'
import type { FineTuningService } from '../../fine-tuning/service.ts'
import type { GenerationService } from '../../generation/service.ts'
import type { WebhookService } from '../../webhooks/service.ts'
import type { Contract } from '../contract.ts'
import { ApiError } from '../errors.ts'
import type { Lifecycle } from '../lifecycle.ts'
import { addressOf, type Addressed, type Links } from '../links.ts'
import type { Metrics } from '../metrics.ts'
import { describeValue } from '../validation.ts'

export interface RouteDependencies {
  readonly access: Pick<AccessService, 'keys'>
  readonly generation: GenerationService
  readonly datasets: DatasetService
  readonly fineTuning: FineTuningService
  readonly webhooks: WebhookService
  readonly config: Config
  readonly contract: Contract
  readonly lifecycle: Lifecycle
  readonly links: Links
  readonly metrics: Metrics
  readonly startedAt: Date
  /** What is done for a request is traced under this; undefined where nothing is. */
  readonly traceparentOf: (request: FastifyRequest) => string | undefined
  /** After how long a silent stream of events is given a comment. */
  readonly keepAliveMs: number
}

export const asUnixSeconds = (date: Date): number => Math.floor(date.getTime() / 1000)

export function generationUrl(request: Addressed, config: Pick<Config, 'publicUrl'>, id: string): string {
  return `${addressOf(request, config)}/v1/generations/${id}`
}

export function generationNotFound(id: string): ApiError {
  const message = `id: expected a generation's id, got ${describeValue(id)}; there is no such generation`
  return new ApiError('generation_not_found', message, { param: 'id' })
}

/** @throws {ApiError} for what RFC 3339 allows and no Date holds: leap seconds */
export function readTime(text: string, param: string): Date {
  const time = new Date(text)
  if (!Number.isNaN(time.getTime())) return time
  const message = `${param}: expected a time without leap seconds, got ${describeValue(text)}`
  throw new ApiError('invalid_value', message, { param })
}

/** Empty unless the operator asked for it. */
export const promptsToLog = (
  { prompt, negativePrompt }: Pick<GenerationParameters, 'prompt' | 'negativePrompt'>,
  { logPrompts }: Pick<Config, 'logPrompts'>,
): { readonly prompt?: string; readonly negativePrompt?: string } =>
  logPrompts === 'true' ? { prompt, negativePrompt } : {}

/** To a hundredth: more digits are noise. */
export const roundMs = (ms: number): number => Math.round(ms * 100) / 100

/** The device's own words are for the log; the client can only try again. */
export function asFailure({ id, error }: FailedGeneration, log: FastifyBaseLogger): ApiError {
  const { code, message: reason } = error
  if (code === 'content_policy_violation') return new ApiError(code, reason)
  log.error({ generationId: id, failure: error }, 'generation failed')
  if (code === 'moderation_unavailable')
    return new ApiError(code, reason, { headers: { 'retry-after': '5' } })
  const message = 'The picture could not be made; the log has the details under the request id'
  return new ApiError('generation_failed', message)
}

export function idempotencyKeyOf({ headers }: Pick<FastifyRequest, 'headers'>): string | undefined {
  const value = headers['idempotency-key']
  return Array.isArray(value) ? value.join(', ') : value
}

/** An empty object is what clients send that cannot send nothing. @throws {ApiError} `unknown_parameter` */
export function refuseBody({ body }: { readonly body?: unknown }): void {
  if (body == null || (typeof body === 'object' && Object.keys(body).length === 0)) return
  throw new ApiError('unknown_parameter', `body: expected nothing, got ${describeValue(body)}`, {
    param: 'body',
  })
}
