/** Follows a stream of events over connections that break. */
import { AtelierError } from './errors.ts'
import { backoffMs, sleep } from './retry.ts'
import { readMessages } from './server-sent-events.ts'

export interface Patience {
  /** Attempts after the first, anew after every event. */
  readonly maxRetries: number
  readonly maxDelayMs: number
}

export interface Following<E> {
  readonly connect: (lastEventId: number | undefined) => Promise<Response>
  /** The last event that is known already. */
  readonly after: number | undefined
  /** What the service would take as `Last-Event-ID`. */
  readonly idOf: (event: E) => number
  /** Nothing follows it. */
  readonly isFinal: (event: E) => boolean
  readonly signal: AbortSignal | undefined
}

/** Each event once and in order; a connection that breaks is taken up again where it was. @throws {AtelierError} */
export async function* follow<E>(
  { connect, after, idOf, isFinal, signal }: Following<E>,
  { maxRetries, maxDelayMs }: Patience,
): AsyncGenerator<E, void, undefined> {
  let lastEventId = after
  let failures = 0
  for (;;) {
    let cause: unknown
    const { status, body } = await connect(lastEventId)
    if (status === 204 || body === null) return
    try {
      for await (const { data } of readMessages(body)) {
        const event = JSON.parse(data) as E
        lastEventId = idOf(event)
        failures = 0
        yield event
        if (isFinal(event)) return
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason
      cause = error
    }
    if (failures === maxRetries) {
      const message = 'the events broke off, and so did every attempt to go on with them'
      throw new AtelierError(message, { code: 'connection_failed', cause })
    }
    await sleep(backoffMs(failures++, maxDelayMs, Math.random()), signal)
  }
}
