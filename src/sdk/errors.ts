/** What the client throws when the service refuses, fails or cannot be reached. */
import type { SchemaError } from './schema.ts'

/** The service's own codes, and two for when there is no answer to read one from. */
export type AtelierErrorCode =
  SchemaError['error']['code'] | 'connection_failed' | 'timeout' | 'unexpected_response'

export interface AtelierErrorDetails {
  readonly code: AtelierErrorCode
  readonly status?: number | undefined
  readonly param?: string | undefined
  readonly requestId?: string | undefined
  readonly retryAfterMs?: number | undefined
  readonly cause?: unknown
}

export class AtelierError extends Error {
  override readonly name = 'AtelierError'
  readonly code: AtelierErrorCode
  /** The HTTP status; undefined when no answer came. */
  readonly status: number | undefined
  /** The field, parameter or header at fault, where one is. */
  readonly param: string | undefined
  /** Names the request in the service's log. */
  readonly requestId: string | undefined
  /** When the service asks to be tried again. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, { code, status, param, requestId, retryAfterMs, cause }: AtelierErrorDetails) {
    super(message, cause === undefined ? {} : { cause })
    this.code = code
    this.status = status
    this.param = param
    this.requestId = requestId
    this.retryAfterMs = retryAfterMs
  }
}

/** @param body what the answer's body held, parsed where it was JSON; a proxy's may be anything */
export function errorFrom(response: Response, body: unknown, retryAfterMs: number | undefined): AtelierError {
  const { status, headers } = response
  const requestId = headers.get('x-request-id') ?? undefined
  const error = (body as Partial<SchemaError> | null)?.error
  if (typeof error?.message !== 'string') {
    return new AtelierError(`the service answered ${status}`, {
      code: 'unexpected_response',
      status,
      requestId,
      retryAfterMs,
    })
  }
  return new AtelierError(error.message, {
    code: error.code,
    status,
    param: error.param ?? undefined,
    requestId,
    retryAfterMs,
  })
}
