/** What all calls of the client have in common: their options, and how an answer becomes a value or an error. */
import { AtelierError, errorFrom } from './errors.ts'
import { readRetryAfter } from './retry.ts'

export interface RequestOptions {
  /** Aborting ends the call with the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

export function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal }
}

export function withKey(key: string | undefined): { 'Idempotency-Key'?: string } {
  return key === undefined ? {} : { 'Idempotency-Key': key }
}

interface Answer<T> {
  readonly data?: T | undefined
  readonly error?: unknown
  readonly response: Response
}

/** @throws {AtelierError}, or the reason of the caller's signal */
export async function unwrap<T>(call: Promise<Answer<T>>, signal: AbortSignal | undefined): Promise<T> {
  const { data, error, response } = await settle(call, signal)
  if (data !== undefined) return data
  throw errorFrom(response, error, readRetryAfter(response))
}

/** For answers without a body. @throws {AtelierError}, or the reason of the caller's signal */
export async function expectSuccess(
  call: Promise<Answer<unknown>>,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const { error, response } = await settle(call, signal)
  if (response.ok) return response
  throw errorFrom(response, error, readRetryAfter(response))
}

function settle<T>(call: Promise<Answer<T>>, signal: AbortSignal | undefined): Promise<Answer<T>> {
  return call.catch((cause: unknown) => {
    if (signal?.aborted) throw signal.reason
    if (cause instanceof AtelierError) throw cause
    const message = 'the answer broke off or is not what the contract promises'
    throw new AtelierError(message, { code: 'unexpected_response', cause })
  })
}
