/** Something of the service, on a component's behalf: asked for, asked for again while it changes, and what went wrong. */
import { useSignal, useSignalEffect, type ReadonlySignal } from '@preact/signals'
import { useRef } from 'preact/hooks'
import { AtelierError, type Atelier } from '../../sdk/index.ts'
import { createAsking, type Asking } from '../shared/idempotency.ts'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier, patientAtelier } from '../shared/session.ts'

export interface Resource<T> {
  /** What was heard last; undefined before anything was. */
  readonly value: ReadonlySignal<T | undefined>
  readonly problem: ReadonlySignal<Problem | undefined>
  readonly reload: () => void
  /** In place of what was heard, where an answer to something else told the same. */
  readonly put: (value: T) => void
}

const afterFailureMs = 5_000

/**
 * Signals that `load` reads before it first waits are followed, the visitor's key among them.
 * @param refreshAfterMs how long what was heard is good for; undefined where it does not change by itself
 */
export function useResource<T>(
  load: (client: Atelier, signal: AbortSignal) => Promise<T>,
  refreshAfterMs: (value: T) => number | undefined = () => undefined,
): Resource<T> {
  const value = useSignal<T | undefined>(undefined)
  const problem = useSignal<Problem | undefined>(undefined)
  const asked = useSignal(0)
  const reload = () => (asked.value += 1)
  useSignalEffect(() => {
    void asked.value
    const ended = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const again = (ms: number | undefined) => {
      if (ms !== undefined) timer = setTimeout(reload, ms)
    }
    const loading = load(atelier.value, ended.signal)
    const hear = async () => {
      try {
        const heard = await loading
        if (ended.signal.aborted) return
        value.value = heard
        problem.value = undefined
        again(refreshAfterMs(heard))
      } catch (error) {
        if (ended.signal.aborted) return
        problem.value = explain(error)
        // Who sees something is shown that it is stale, and when it no longer is.
        if (value.peek() !== undefined && !isFinal(error)) again(afterFailureMs)
      }
    }
    void hear()
    return () => {
      ended.abort()
      clearTimeout(timer)
    }
  })
  return { value, problem, reload, put: (heard) => (value.value = heard) }
}

/** What asking again does not mend: no key or a wrong one, or nothing there. */
export const isFinal = (error: unknown): boolean =>
  error instanceof AtelierError && [401, 403, 404].includes(error.status ?? 0)

/** The first of them. */
export async function take<T>(items: AsyncIterable<T>, count: number): Promise<T[]> {
  const taken: T[] = []
  for await (const item of items) {
    taken.push(item)
    if (taken.length === count) break
  }
  return taken
}

export interface Action {
  readonly problem: ReadonlySignal<Problem | undefined>
  readonly isBusy: ReadonlySignal<boolean>
  /** One at a time; what goes wrong becomes the problem. */
  readonly run: (act: (client: Atelier, asking: Asking) => Promise<void>) => void
  readonly dismiss: () => void
}

/** Something that a button does. */
export function useAction(): Action {
  const problem = useSignal<Problem | undefined>(undefined)
  const isBusy = useSignal(false)
  const { current: asking } = useRef(createAsking())
  return {
    problem,
    isBusy,
    dismiss: () => (problem.value = undefined),
    run(act) {
      if (isBusy.peek()) return
      isBusy.value = true
      problem.value = undefined
      act(patientAtelier.peek(), asking)
        .catch((error: unknown) => (problem.value = explain(error)))
        .finally(() => (isBusy.value = false))
    },
  }
}
