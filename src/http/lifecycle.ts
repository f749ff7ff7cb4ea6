/** How long requests may go on: until their client leaves, or until a server that shuts down has waited long enough. */
import type { FastifyReply } from 'fastify'

export interface Lifecycle {
  readonly isClosing: boolean
  /** Aborted when waiting requests must be answered because the server goes. */
  readonly drained: AbortSignal
  /** Begins the shutdown: waiting requests get `drainMs` more. */
  close: (drainMs: number) => void
  /** Ends it; nothing waits any more. */
  closed: () => void
}

export function createLifecycle(): Lifecycle {
  const drained = new AbortController()
  let isClosing = false
  let timer: NodeJS.Timeout | undefined
  return {
    get isClosing() {
      return isClosing
    },
    drained: drained.signal,
    close(drainMs) {
      isClosing = true
      timer = setTimeout(() => drained.abort(), drainMs)
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
