/** The catalogue of everything that a request can be refused for, and how an error looks on the wire. */
import { AccessError } from '../access/errors.ts'
import { DatasetError } from '../datasets/errors.ts'
import { FineTuningError } from '../fine-tuning/errors.ts'
import { GenerationError, isOutage } from '../generation/errors.ts'
import { PolicyError } from '../policy/errors.ts'
import type { SchemaError } from '../sdk/schema.ts'
import { WebhookError } from '../webhooks/errors.ts'

export type ErrorCode = SchemaError['error']['code']
type ErrorType = SchemaError['error']['type']

const request = 'invalid_request_error'

/** Status and type of each code; the type names are OpenAI's. A test holds the codes against openapi.yaml. */
export const errorCatalogue = {
  malformed_request: { status: 400, type: request },
  malformed_json: { status: 400, type: request },
  missing_required_parameter: { status: 400, type: request },
  unknown_parameter: { status: 400, type: request },
  invalid_type: { status: 400, type: request },
  invalid_value: { status: 400, type: request },
  invalid_archive: { status: 400, type: request },
  upload_interrupted: { status: 400, type: request },
  content_policy_violation: { status: 400, type: request },
  invalid_api_key: { status: 401, type: request },
  insufficient_scope: { status: 403, type: 'permission_error' },
  host_not_allowed: { status: 403, type: 'permission_error' },
  origin_not_allowed: { status: 403, type: 'permission_error' },
  url_expired: { status: 403, type: 'permission_error' },
  invalid_signature: { status: 403, type: 'permission_error' },
  unknown_url: { status: 404, type: request },
  model_not_found: { status: 404, type: request },
  image_not_found: { status: 404, type: request },
  generation_not_found: { status: 404, type: request },
  preview_not_found: { status: 404, type: request },
  dataset_not_found: { status: 404, type: request },
  dataset_item_not_found: { status: 404, type: request },
  fine_tuning_job_not_found: { status: 404, type: request },
  checkpoint_not_found: { status: 404, type: request },
  sample_not_found: { status: 404, type: request },
  deployment_not_found: { status: 404, type: request },
  delivery_not_found: { status: 404, type: request },
  key_not_found: { status: 404, type: request },
  method_not_allowed: { status: 405, type: request },
  not_acceptable: { status: 406, type: request },
  request_timeout: { status: 408, type: request },
  generation_cancelled: { status: 409, type: request },
  generation_not_settled: { status: 409, type: request },
  dataset_in_use: { status: 409, type: request },
  dataset_not_ready: { status: 409, type: request },
  fine_tuning_job_state: { status: 409, type: request },
  in_use: { status: 409, type: request },
  nothing_to_roll_back: { status: 409, type: request },
  export_failed: { status: 409, type: request },
  generation_deleted: { status: 410, type: 'idempotency_error' },
  body_too_large: { status: 413, type: request },
  url_too_long: { status: 414, type: request },
  unsupported_media_type: { status: 415, type: request },
  range_not_satisfiable: { status: 416, type: request },
  idempotency_conflict: { status: 422, type: 'idempotency_error' },
  queue_full: { status: 429, type: 'rate_limit_error' },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  in_flight_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  insufficient_quota: { status: 429, type: 'insufficient_quota' },
  headers_too_large: { status: 431, type: request },
  internal_error: { status: 500, type: 'server_error' },
  generation_failed: { status: 500, type: 'server_error' },
  moderation_unavailable: { status: 503, type: 'server_error' },
  database_unavailable: { status: 503, type: 'server_error' },
  not_ready: { status: 503, type: 'server_error' },
  shutting_down: { status: 503, type: 'server_error' },
} as const satisfies Record<ErrorCode, { status: number; type: ErrorType }>

interface ApiErrorOptions {
  /** The field, parameter or header at fault. */
  readonly param?: string
  readonly headers?: Readonly<Record<string, string>>
  /** For the log only. */
  readonly cause?: unknown
}

/** An answer other than success. `message` goes to the client: it says what was expected and what came. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: ErrorCode
  readonly status: number
  readonly param: string | null
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ErrorCode, message: string, { param, headers = {}, cause }: ApiErrorOptions = {}) {
    super(message, cause === undefined ? {} : { cause })
    this.code = code
    this.status = errorCatalogue[code].status
    this.param = param ?? null
    this.headers = headers
  }

  toBody(requestId: string): SchemaError {
    const { message, param, code } = this
    return { error: { message, type: errorCatalogue[code].type, param, code, request_id: requestId } }
  }
}

const brokenOff = { code: 'malformed_request', message: 'body: expected all of it, got a part' } as const

/** What Fastify and its parsers throw, by their codes. Everything that is not named here is ours to answer for: 500. */
const frameworkErrors: Record<string, { code: ErrorCode; message: string }> = {
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    code: 'malformed_json',
    message: 'body: expected a JSON object, got nothing',
  },
  FST_ERR_CTP_INVALID_JSON_BODY: {
    code: 'malformed_json',
    message: 'body: expected a JSON object, got text that is not JSON',
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: 'malformed_request',
    message: 'Content-Length: expected the length of the body, got another number',
  },
  FST_ERR_CTP_BODY_TOO_LARGE: { code: 'body_too_large', message: 'body: expected at most 256 KiB, got more' },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'unsupported_media_type',
    message: 'Content-Type: expected application/json',
  },
  ECONNRESET: brokenOff,
  ERR_STREAM_PREMATURE_CLOSE: brokenOff,
  FST_ERR_BAD_URL: {
    code: 'malformed_request',
    message: 'URL: expected a percent-encoded path, got one that cannot be decoded',
  },
  FST_ERR_MAX_PARAM_LENGTH: {
    code: 'url_too_long',
    message: 'URL: a part of the path is longer than any id',
  },
}

/** Of the client where the framework read its body; of others elsewhere. */
const isHangUp = (code: unknown): boolean => code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE'

/** @returns the answer to any thrown value; what nobody foresaw becomes `internal_error` and keeps its text to the log */
export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown
  if (thrown instanceof AccessError) return asAccessRefusal(thrown)
  if (thrown instanceof GenerationError) return asRefusal(thrown)
  if (thrown instanceof DatasetError) return asDatasetRefusal(thrown)
  if (thrown instanceof FineTuningError) return asFineTuningRefusal(thrown)
  if (thrown instanceof PolicyError) return asPolicyRefusal(thrown)
  if (thrown instanceof WebhookError)
    return new ApiError('invalid_value', thrown.message, { param: thrown.parameter })
  const { code, statusCode } = thrown as { code?: unknown; statusCode?: unknown }
  const known = typeof code === 'string' ? frameworkErrors[code] : undefined
  if (known && (statusCode === 400 || !isHangUp(code))) return new ApiError(known.code, known.message)
  if (isOutage(thrown)) return databaseUnavailable(thrown)
  // The JSON parser's own errors (also its refusal of __proto__) carry no code of Fastify's.
  if (thrown instanceof SyntaxError && statusCode === 400) {
    return new ApiError(
      'malformed_json',
      'body: expected a JSON object, got text that is not JSON or names __proto__',
    )
  }
  return internalError(thrown)
}

function internalError(cause: unknown): ApiError {
  const message = 'Something went wrong on the server; the log has the details under the request id'
  return new ApiError('internal_error', message, { cause })
}

function asPolicyRefusal({ code, message, parameter: param, cause }: PolicyError): ApiError {
  switch (code) {
    case 'content_policy_violation':
      return new ApiError(code, message, param === undefined ? {} : { param })
    case 'moderation_unavailable':
      return new ApiError(code, message, { headers: { 'retry-after': '5' }, cause })
  }
}

function asAccessRefusal({ code, message, parameter: param }: AccessError): ApiError {
  switch (code) {
    case 'key_not_found':
      return new ApiError('key_not_found', message, { param })
    case 'invalid_key':
    case 'invalid_cursor':
      return new ApiError('invalid_value', message, { param })
  }
}

/** What was asked for may have been done: under an Idempotency-Key it is not done twice. */
function databaseUnavailable(cause: unknown): ApiError {
  const message = 'The database cannot be reached at the moment; try again in a few seconds'
  return new ApiError('database_unavailable', message, { headers: { 'retry-after': '5' }, cause })
}

function asDatasetRefusal(error: DatasetError): ApiError {
  const { code, message, parameter, cause } = error
  const details = { ...(parameter !== undefined && { param: parameter }), cause }
  switch (code) {
    case 'not_found':
      return new ApiError('dataset_not_found', message, { param: 'id' })
    case 'item_not_found':
      return new ApiError('dataset_item_not_found', message, { param: 'item' })
    case 'in_use':
      return new ApiError('dataset_in_use', message, { param: 'id' })
    case 'not_ready':
      return new ApiError('dataset_not_ready', message, { param: 'id' })
    case 'invalid_cursor':
    case 'invalid_text':
    case 'folder_not_allowed':
      return new ApiError('invalid_value', message, details)
    case 'shutting_down':
      return new ApiError('shutting_down', message, { headers: { 'retry-after': '5' } })
    case 'too_large':
      return new ApiError('body_too_large', `body: ${message}`, { param: 'body' })
    case 'unknown_archive':
    case 'invalid_archive':
    case 'archive_bomb':
    case 'too_many_files':
    case 'no_pictures':
      return new ApiError('invalid_archive', `body: ${message}`, { param: 'body' })
    case 'interrupted':
      // Whoever broke it off may have said why.
      return cause instanceof ApiError
        ? cause
        : new ApiError('upload_interrupted', `body: ${message}`, details)
    case 'server_failed':
      return internalError(error)
  }
}

function asRefusal(error: GenerationError): ApiError {
  const { code, message, parameter: param, retryAfterSeconds = 1 } = error
  switch (code) {
    case 'queue_full':
      return new ApiError('queue_full', message, { headers: { 'retry-after': String(retryAfterSeconds) } })
    case 'in_flight_limit':
      return new ApiError('in_flight_limit_exceeded', message, {
        headers: { 'retry-after': String(retryAfterSeconds) },
      })
    case 'images_limit':
      return new ApiError('insufficient_quota', message, {
        ...(param !== undefined && { param }),
        headers: { 'retry-after': String(retryAfterSeconds) },
      })
    case 'idempotency_conflict':
      return new ApiError('idempotency_conflict', message, { param: 'Idempotency-Key' })
    case 'generation_deleted':
      return new ApiError('generation_deleted', message, { param: 'Idempotency-Key' })
    case 'unknown_model':
      return new ApiError('model_not_found', message, { param: 'model' })
    case 'invalid_text':
      return new ApiError('invalid_value', message, param === undefined ? {} : { param })
    case 'invalid_cursor':
      return new ApiError('invalid_value', message, { param: 'cursor' })
    case 'not_found':
      return new ApiError('generation_not_found', message, { param: 'id' })
    case 'not_settled':
      return new ApiError('generation_not_settled', message, { param: 'id' })
    case 'blob_missing':
      return new ApiError('image_not_found', 'id: expected a picture that is kept; this one was erased', {
        param: 'id',
        cause: error.cause,
      })
    case 'blobs_unavailable':
      return new ApiError('not_ready', 'The storage of pictures does not answer', {
        headers: { 'retry-after': '5' },
        cause: error.cause,
      })
  }
}

function asFineTuningRefusal({ code, message, parameter, cause }: FineTuningError): ApiError {
  const details = { ...(parameter !== undefined && { param: parameter }), cause }
  switch (code) {
    case 'unknown_model':
      return new ApiError('model_not_found', message, details)
    case 'unknown_dataset':
      return new ApiError('dataset_not_found', message, details)
    case 'invalid_job':
      return new ApiError('invalid_value', message, details)
    case 'job_not_found':
      return new ApiError('fine_tuning_job_not_found', message, details)
    case 'wrong_state':
      return new ApiError('fine_tuning_job_state', message, details)
    case 'checkpoint_not_found':
    case 'sample_not_found':
    case 'deployment_not_found':
    case 'in_use':
    case 'nothing_to_roll_back':
    case 'export_failed':
      return new ApiError(code, message, details)
  }
}
