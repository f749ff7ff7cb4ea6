/** What a command that runs until a signal has opened is closed again, the last first, however it ends. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { onInterruption } from './interruption.ts'

export interface Lifetime {
  /** To be closed at the end. */
  readonly open: <T extends { close(): Promise<unknown> | void }>(opening: PromiseLike<T> | T) => Promise<T>
  /** Aborted at SIGTERM or SIGINT. */
  readonly ending: AbortSignal
}

/**
 * Ends the process when `live` has returned and all is closed; at once at a second signal.
 * @throws what `live` throws, once all is closed
 */
export async function untilSignalled(live: (lifetime: Lifetime) => Promise<void>): Promise<void> {
  const closers: (() => Promise<void>)[] = []
  // Before anything that takes time, so that a signal during the start ends it in order too.
  const { signal: ending } = onInterruption(() => undefined)
  try {
    await live({
      ending,
      async open(opening) {
        const opened = await opening
        closers.push(async () => void (await opened.close()))
        return opened
      },
    })
  } finally {
    for (const close of closers.toReversed()) await close()
  }
  // PGlite and the like keep no promise to let the event loop run dry.
  process.exit(0)
}

/** Resolves once whoever sends requests has had the time to notice that this process, which said so from the signal on, is leaving. */
export async function untilNoticed(
  ending: AbortSignal,
  { drainDelaySeconds }: Pick<Config, 'drainDelaySeconds'>,
  log: Logger,
): Promise<void> {
  if (!ending.aborted) await once(ending, 'abort')
  log.info({ drainDelaySeconds }, 'told to end: not ready any more, and serving until that is noticed')
  await sleep(drainDelaySeconds * 1000)
  log.info('shutting down')
}
