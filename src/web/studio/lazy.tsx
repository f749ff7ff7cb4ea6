/** A part of the page that is fetched when it is first looked at. */
import { useSignal } from '@preact/signals'
import type { ComponentType, JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import { Notice } from '../shared/notice.tsx'
import { explain, type Problem } from '../shared/problem.ts'

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): (props: P) => JSX.Element {
  let loading: Promise<ComponentType<P>> | undefined
  return function Lazy(props: P): JSX.Element {
    const part = useSignal<ComponentType<P> | undefined>(undefined)
    const problem = useSignal<Problem | undefined>(undefined)
    const begin = async () => {
      problem.value = undefined
      try {
        loading ??= load()
        const loaded = await loading
        part.value = loaded
      } catch (error) {
        loading = undefined
        problem.value = explain(error)
      }
    }
    useEffect(() => void begin(), [])
    if (problem.value) return <Notice problem={problem.value} onRetry={() => void begin()} />
    const Part = part.value
    return Part ? <Part {...props} /> : <div class="loading" aria-busy="true" />
  }
}
