/** How long requests may go on: until their client leaves, or until a server that shuts down has waited long enough. */
import type { Server } from 'node:http'
import type { FastifyReply } from 'fastify'

export interface Lifecycle {
  /** The server was told to end, and serves on until it closes. */
  readonly isLeaving: boolean
  readonly isClosing: boolean
  /** Aborted as soon as the server closes: for answers without an end that the client can take up again elsewhere. */
  readonly closing: AbortSignal
  /** Aborted when waiting requests must be answered because the server goes. */
  readonly drained: AbortSignal
  /** Begins the shutdown: waiting requests get `drainMs` more, then every connection is closed. */
  close: (drainMs: number) => void
  /** Ends it; nothing waits any more. */
  closed: () => void
}

/**
 * Node's `server.close()` waits for connections on which nothing was ever asked, and clients open such ahead of need. So a
 * closing server hangs up on everybody as soon as it has answered what it was asked.
 *
 * @param leaving aborted when the server was told to end
 */
export function createLifecycle(server: Server, leaving?: AbortSignal): Lifecycle {
  const closing = new AbortController()
  const drained = new AbortController()
  let unanswered = 0
  let timer: NodeJS.Timeout | undefined
  const hangUpWhenQuiet = () => {
    if (closing.signal.aborted && unanswered === 0) server.closeAllConnections()
  }
  server.on('request', (_request, response) => {
    unanswered++
    response.once('close', () => {
      unanswered--
      hangUpWhenQuiet()
    })
  })
  return {
    get isLeaving() {
      return closing.signal.aborted || leaving?.aborted === true
    },
    get isClosing() {
      return closing.signal.aborted
    },
    closing: closing.signal,
    drained: drained.signal,
    close(drainMs) {
      closing.abort()
      timer = setTimeout(() => drained.abort(), drainMs)
      // After the server has stopped to listen, so that nobody slips in between.
      setImmediate(hangUpWhenQuiet)
    },
    closed: () => clearTimeout(timer),
  }
}

/** @returns a signal that is aborted when the client leaves before its answer is complete */
export function clientGone({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController()
  if (raw.destroyed) gone.abort()
  else {
    raw.once('close', () => {
      if (!raw.writableFinished) gone.abort()
    })
  }
  return gone.signal
}
