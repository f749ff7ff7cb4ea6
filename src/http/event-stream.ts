/** Answers with server-sent events (HTML standard, section 9.2), with comments in between that keep the connection alive. */
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'

export interface ServerSentEvent {
  readonly event: string
  readonly id?: number
  /** Sent as JSON. */
  readonly data: unknown
}

/** How long a client that lost its connection waits before it comes again. */
const retryMs = 1_000

/** @returns the reply, which goes on until `events` end or the client leaves; `events` must then end by themselves */
export function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<ServerSentEvent>,
  keepAliveMs: number,
): FastifyReply {
  return reply
    .headers({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // Proxies such as nginx would hold events back to fill their buffers.
      'x-accel-buffering': 'no',
    })
    .send(Readable.from(encode(events, keepAliveMs), { objectMode: false, highWaterMark: 16 * 1024 }))
}

async function* encode(events: AsyncIterable<ServerSentEvent>, keepAliveMs: number): AsyncGenerator<string> {
  // Sends the head, too.
  yield `retry: ${retryMs}\n\n`
  const iterator = events[Symbol.asyncIterator]()
  try {
    let next = iterator.next()
    for (;;) {
      const result = await within(next, keepAliveMs)
      if (result === 'late') yield ': keep-alive\n\n'
      else if (result.done) return
      else {
        yield format(result.value)
        next = iterator.next()
      }
    }
  } finally {
    await iterator.return?.()
  }
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | 'late'> {
  const { promise: late, resolve } = Promise.withResolvers<'late'>()
  const timer = setTimeout(() => resolve('late'), timeoutMs)
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** JSON has no line breaks of its own, so one data line holds it. */
function format({ event, id, data }: ServerSentEvent): string {
  const name = id === undefined ? '' : `id: ${id}\n`
  return `${name}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
