/** A fetch that waits and tries again where that is safe and likely to help. */
import { AtelierError } from './errors.ts'

export interface RetryOptions {
  readonly fetch: (request: Request) => Promise<Response>
  /** Attempts after the first. */
  readonly maxRetries: number
  /** How long one attempt may take until its answer's head is there. */
  readonly timeoutMs: number
  /** The longest wait before another attempt; a service that asks for more is not tried again. */
  readonly maxDelayMs: number
  readonly random: () => number
}

const firstDelayMs = 500

/**
 * Repeats a request after 429 and 5xx: the service says that there will be no picture from this attempt. A connection that
 * broke or timed out says nothing, so then only what may run twice is repeated: GET, and POST with an Idempotency-Key.
 * @throws {AtelierError} `connection_failed` or `timeout`, or the reason of the caller's signal
 */
export function retryingFetch(options: RetryOptions): (request: Request) => Promise<Response> {
  const { maxRetries, maxDelayMs, random } = options
  return async (request) => {
    for (let attempt = 0; ; attempt++) {
      const outcome = await once(request, options)
      const delayMs = outcome.retryAfterMs ?? backoffMs(attempt, maxDelayMs, random())
      const isLast = attempt === maxRetries || !outcome.worthRepeating || delayMs > maxDelayMs
      if ('error' in outcome) {
        if (isLast) throw outcome.error
      } else {
        if (isLast) return outcome.response
        await outcome.response.body?.cancel()
      }
      await sleep(delayMs, request.signal)
    }
  }
}

interface Judged {
  readonly worthRepeating: boolean
  readonly retryAfterMs?: number | undefined
}
type Outcome = Judged & ({ readonly response: Response } | { readonly error: Error })

async function once(request: Request, { fetch, timeoutMs }: RetryOptions): Promise<Outcome> {
  const timeout = new AbortController()
  const timer = setTimeout(() => timeout.abort(), timeoutMs)
  const signal = AbortSignal.any([request.signal, timeout.signal])
  try {
    // A body can be read once only, so each attempt sends a copy.
    const response = await fetch(new Request(request.clone(), { signal }))
    const { status } = response
    return {
      response,
      worthRepeating: status === 429 || status >= 500,
      retryAfterMs: readRetryAfter(response),
    }
  } catch (error) {
    if (request.signal.aborted) throw request.signal.reason
    const worthRepeating = request.method === 'GET' || request.headers.has('idempotency-key')
    const failure = timeout.signal.aborted
      ? new AtelierError(`no answer from ${request.url} within ${timeoutMs} ms`, { code: 'timeout' })
      : new AtelierError(`cannot reach ${request.url}`, { code: 'connection_failed', cause: error })
    return { error: failure, worthRepeating }
  } finally {
    clearTimeout(timer)
  }
}

/** Exponential backoff with full jitter: anything below a bound that doubles, so that many clients spread out. */
export function backoffMs(attempt: number, maxDelayMs: number, random: number): number {
  return random * Math.min(maxDelayMs, firstDelayMs * 2 ** attempt)
}

/** @returns Retry-After in milliseconds, given as seconds or as a date (RFC 9110, section 10.2.3) */
export function readRetryAfter({ headers }: Pick<Response, 'headers'>, now = Date.now()): number | undefined {
  const value = headers.get('retry-after')?.trim()
  if (value === undefined || value === '') return undefined
  if (/^\d+$/.test(value)) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

export function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason as Error)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, delayMs)
    if (signal?.aborted) stop()
    else signal?.addEventListener('abort', stop, { once: true })
  })
}
