/** Long work that goes on only while somebody has time for it. */

/** The work was given up before it was done. */
class GivenUp extends Error {
  override readonly name = 'GivenUp'
}

/**
 * Runs a task that awaits `turn` before every piece of its work: each is done when the generator is asked on. A generator that is
 * returned from early makes the task's next turn fail, and waits until the task has cleaned up.
 */
export async function* inTurns<T>(
  task: (turn: () => Promise<void>) => Promise<T>,
): AsyncGenerator<void, T, void> {
  let asked = Promise.withResolvers<void>()
  let granted = Promise.withResolvers<void>()
  const turn = (): Promise<void> => {
    asked.resolve()
    return granted.promise
  }
  let outcome: { readonly value: T } | undefined
  const ended = task(turn).then((value) => void (outcome = { value }))
  try {
    for (;;) {
      await Promise.race([asked.promise, ended])
      if (outcome) return outcome.value
      yield
      const { resolve } = granted
      ;[asked, granted] = [Promise.withResolvers(), Promise.withResolvers()]
      resolve()
    }
  } finally {
    // Nobody may be waiting for it.
    granted.promise.catch(() => undefined)
    granted.reject(new GivenUp('the work was given up'))
    await ended.catch(() => undefined)
  }
}
