/** The playground: words in, pictures out. */
import { useSignal, useSignalEffect } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaModel } from '../../sdk/index.ts'
import { Notice } from '../shared/notice.tsx'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier } from '../shared/session.ts'

export function Playground(): JSX.Element {
  const models = useSignal<readonly SchemaModel[]>([])
  const problem = useSignal<Problem | undefined>(undefined)
  const load = () => {
    atelier.value.models
      .list()
      .then(({ data }) => (models.value = data))
      .catch((error: unknown) => (problem.value = explain(error)))
  }
  useSignalEffect(load)
  return (
    <div class="empty">
      <h1>Playground</h1>
      {problem.value && <Notice problem={problem.value} onRetry={load} />}
      <ul class="plain-list">
        {models.value.map(({ id }) => (
          <li key={id}>{id}</li>
        ))}
      </ul>
    </div>
  )
}
