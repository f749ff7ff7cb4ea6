/** Who waits for news of what, by its id, within this process. */

export interface Subscription {
  /**
   * Resolves at the next announcement. To be called before one looks at what was announced: so nothing falls between.
   * Rejects with the signal's reason. Notifications may get lost, as when a database server is restarted: it resolves after
   * a while without one too.
   */
  next(signal?: AbortSignal): Promise<void>
  /** To be called in any case, so that nothing is kept for those who left. */
  stop(): void
}

const lookAgainMs = 15_000

export class Announcements {
  readonly #subscribers = new Map<string, Set<() => void>>()

  announce(id: string): void {
    for (const wake of this.#subscribers.get(id) ?? []) wake()
  }

  /** Some may have been missed: everybody looks. */
  announceAll(): void {
    for (const id of this.#subscribers.keys()) this.announce(id)
  }

  subscribe(id: string): Subscription {
    let end: () => void = () => undefined
    const wake = () => end()
    const subscribers = this.#subscribers.get(id) ?? new Set()
    this.#subscribers.set(id, subscribers.add(wake))
    const forget = () => {
      subscribers.delete(wake)
      if (subscribers.size === 0 && this.#subscribers.get(id) === subscribers) this.#subscribers.delete(id)
    }
    return {
      next(signal) {
        end()
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        promise.catch(() => undefined) // who looked and left does not wait for it
        const abort = () => {
          reject(signal?.reason)
          end()
        }
        const timer = setTimeout(wake, lookAgainMs)
        timer.unref()
        end = () => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', abort)
          resolve()
        }
        if (signal?.aborted) abort()
        else signal?.addEventListener('abort', abort, { once: true })
        return promise
      },
      stop() {
        end()
        forget()
      },
    }
  }
}
