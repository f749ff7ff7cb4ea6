/**
 * How long requests may take to arrive. Node has one limit for a whole request, and an upload takes as long as it takes; so heads are
 * left to Node, and bodies are timed here: small ones as a whole, uploads by their silences.
 */
import { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { ApiError } from './errors.ts'

export const headTimeoutMs = 60_000
const bodyTimeoutMs = 60_000
/** How long a client may go on with a body that nobody reads any more, so that it can hear the answer first. */
const lingerMs = 5_000

/** What may take so long: all of it, or each piece. */
export interface Patience {
  readonly unit: 'body' | 'piece'
  readonly ms: number
}

export const patienceFor = (unit: Patience['unit']): Patience => ({ unit, ms: bodyTimeoutMs })

/** @returns the same bytes; it breaks off with `request_timeout`, and the connection stays open for the answer */
export function inTime(payload: Readable, patience: Patience): Readable {
  const timed = Readable.from(pieces(payload, patience), { objectMode: false })
  // Who has read enough to refuse it listens no more, and a client that hangs up then must not end the process.
  timed.on('error', () => undefined)
  return timed
}

async function* pieces(payload: Readable, { unit, ms }: Patience): AsyncGenerator<Buffer> {
  const arrived = unit === 'body' ? 'the body' : 'the next piece of the body'
  const late = new ApiError('request_timeout', `expected ${arrived} within ${ms / 1000} seconds`)
  const chunks = payload.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>
  let isLate = false
  let breakOff = (): void => undefined
  const giveUp = () => {
    isLate = true
    breakOff()
  }
  let timer = setTimeout(giveUp, ms)
  try {
    for (;;) {
      // A race against one promise for the whole body would keep every piece until its end.
      const next = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        breakOff = () => reject(late)
        if (isLate) breakOff()
        else chunks.next().then(resolve, reject)
      })
      if (next.done === true) return
      // While the bytes are used it is not the client that takes the time.
      if (unit === 'piece') clearTimeout(timer)
      yield next.value
      if (unit === 'piece') timer = setTimeout(giveUp, ms)
    }
  } finally {
    clearTimeout(timer)
  }
}

export function hasBody({ headers }: Pick<FastifyRequest, 'headers'>): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** After an answer that did not wait for all of the body. */
export function hangUpOnRest(request: FastifyRequest): void {
  const { raw } = request
  if (!hasBody(request) || raw.complete || raw.destroyed) return
  const timer = setTimeout(() => raw.destroy(), lingerMs)
  timer.unref()
  raw.once('end', () => clearTimeout(timer))
  raw.once('close', () => clearTimeout(timer))
}
