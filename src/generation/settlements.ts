/** Who waits for which generation to become final, within this process, and how often one does. */

interface Waiting {
  /** Resolves at the announcement; rejects with the signal's reason. */
  readonly promise: Promise<void>
  /** To be called in any case, so that nothing is kept for those who left. */
  stop(): void
}

const rememberedSettlements = 16

export class Settlements {
  readonly #waiting = new Map<string, Set<() => void>>()
  readonly #recentMs: number[] = []

  announce(id: string): void {
    this.#recentMs.push(Date.now())
    if (this.#recentMs.length > rememberedSettlements) this.#recentMs.shift()
    for (const resolve of this.#waiting.get(id) ?? []) resolve()
  }

  wait(id: string, signal?: AbortSignal): Waiting {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    promise.catch(() => undefined) // who stopped waiting needs not hear of it
    const waiters = this.#waiting.get(id) ?? new Set()
    this.#waiting.set(id, waiters.add(resolve))
    const abort = () => reject(signal?.reason)
    if (signal?.aborted) abort()
    signal?.addEventListener('abort', abort, { once: true })
    return {
      promise,
      stop: () => {
        signal?.removeEventListener('abort', abort)
        waiters.delete(resolve)
        if (waiters.size === 0 && this.#waiting.get(id) === waiters) this.#waiting.delete(id)
      },
    }
  }

  /** How long a place in a full queue is likely to take: the recent mean time between two ends, from 1 s to 10 min. */
  secondsUntilNext(): number {
    const [first, last] = [this.#recentMs.at(0), this.#recentMs.at(-1)]
    if (first === undefined || last === undefined || this.#recentMs.length < 2) return 10
    const meanMs = (last - first) / (this.#recentMs.length - 1)
    return Math.min(600, Math.max(1, Math.ceil(meanMs / 1000)))
  }
}
