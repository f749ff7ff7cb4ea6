/** What SIGINT and SIGTERM mean to a command that ends cleanly: the first asks it to, a later one ends it at once. */

export const interruptedStatus = 130

/** One that comes within this time is the first, sent to the whole group of processes and passed on as well. */
const sameSignalMs = 1_000

export interface Interruption {
  readonly signal: AbortSignal
  /** Signals mean again what they mean by default. */
  readonly forget: () => void
}

/** @param tell called at the first, before the signal is aborted */
export function onInterruption(tell: () => void): Interruption {
  const controller = new AbortController()
  let firstAtMs = Infinity
  const interrupt = () => {
    if (!controller.signal.aborted) {
      firstAtMs = performance.now()
      tell()
      controller.abort()
    } else if (performance.now() - firstAtMs > sameSignalMs) process.exit(interruptedStatus)
  }
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const signal of signals) process.on(signal, interrupt)
  return {
    signal: controller.signal,
    forget: () => {
      for (const signal of signals) process.off(signal, interrupt)
    },
  }
}
