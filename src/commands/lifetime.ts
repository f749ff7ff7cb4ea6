/** What a command that runs until a signal has opened is closed again, the last first, however it ends. */
import { once } from 'node:events'

export interface Lifetime {
  /** To be closed at the end. */
  readonly open: <T extends { close(): Promise<unknown> | void }>(opening: PromiseLike<T> | T) => Promise<T>
  /** Resolves at SIGTERM or SIGINT. */
  readonly signalled: Promise<unknown>
}

/** Ends the process when `live` has returned and all is closed. @throws what `live` throws, once all is closed */
export async function untilSignalled(live: (lifetime: Lifetime) => Promise<void>): Promise<void> {
  const closers: (() => Promise<void>)[] = []
  // Before anything that takes time, so that a signal during the start ends it in order too.
  const signalled = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
  try {
    await live({
      signalled,
      async open(opening) {
        const opened = await opening
        closers.push(async () => void (await opened.close()))
        return opened
      },
    })
  } finally {
    // A second signal does not wait. One that comes at once is the first, sent to the whole group and passed on as well.
    const sinceMs = performance.now()
    const leave = () => performance.now() - sinceMs > 1_000 && process.exit(1)
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, leave)
    for (const close of closers.toReversed()) await close()
  }
  // PGlite and the like keep no promise to let the event loop run dry.
  process.exit(0)
}
