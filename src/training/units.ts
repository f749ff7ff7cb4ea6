/** Cuts work into units between which the device may do other work. */
import type { TrainingUnit } from './host.ts'
import type { Passing } from './tensors.ts'

export type Units<Result = void> = AsyncGenerator<TrainingUnit, Result, void>

const longestMs = 20

/** A pass over tensors, with a unit whenever it has been at it for a while. */
export async function* paced<Result>(kind: 'update', passing: Passing<Result>): Units<Result> {
  let startedMs = performance.now()
  for (;;) {
    const { done, value } = passing.next()
    if (done) return value
    if (performance.now() - startedMs < longestMs) continue
    yield { kind }
    startedMs = performance.now()
  }
}

/** A unit for every stop. */
export async function* each<Result>(
  kind: 'prepare' | 'micro-step' | 'evaluate',
  stopping: AsyncGenerator<unknown, Result, void>,
): Units<Result> {
  try {
    for (;;) {
      const { done, value } = await stopping.next()
      if (done) return value
      yield { kind }
    }
  } finally {
    // What was opened for it is closed when nobody asks any more.
    await stopping.return(undefined as never)
  }
}

/** As far as the signal lets it. @returns undefined when the rest was given up */
export async function* unlessAborted<Result>(
  signal: AbortSignal,
  units: Units<Result>,
): Units<Result | undefined> {
  try {
    while (!signal.aborted) {
      const { done, value } = await units.next()
      if (done) return value
      yield value
    }
    return undefined
  } finally {
    await units.return(undefined as never)
  }
}

/** Waits without keeping the device; what is waited for is never left behind, and fails here and nowhere else. */
export async function* waitFor<Result>(promise: Promise<Result>): Units<Result> {
  const until = promise.catch(() => undefined)
  try {
    yield { kind: 'wait', until }
  } finally {
    await until
  }
  return promise
}
