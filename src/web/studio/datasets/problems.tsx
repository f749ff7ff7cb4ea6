/** What is wrong with a dataset's files, and what came of it. */
import type { JSX } from 'preact'
import { plural } from '../format.ts'
import { Chip, Loaded } from '../parts.tsx'
import { take, useResource } from '../resource.ts'

const most = 200

export function Problems({ id, count }: { readonly id: string; readonly count: number }): JSX.Element {
  return (
    <details class="panel panel--closed">
      <summary class="panel__head">
        <h2>{plural(count, 'problem')}</h2>
        <span class="quiet">The rest of the files is used</span>
      </summary>
      <List id={id} count={count} />
    </details>
  )
}

function List({ id, count }: { readonly id: string; readonly count: number }): JSX.Element {
  const problems = useResource((client, signal) =>
    take(client.datasets.problems(id, { limit: 100 }, { signal }), most),
  )
  return (
    <Loaded of={problems}>
      {(listed) => (
        <>
          <ul class="rows" aria-label="Problems">
            {listed.map(({ path, code, message, effect }) => (
              <li key={`${path} ${code}`} class="rows__row">
                <code class="rows__path">{path}</code>
                <Chip tone={effect === 'left_out' ? 'bad' : 'warn'}>
                  {effect === 'left_out' ? 'left out' : 'used without it'}
                </Chip>
                <span class="rows__note rows__note--wide">{message}</span>
              </li>
            ))}
          </ul>
          {count > listed.length && <p class="quiet">And {count - listed.length} more.</p>}
        </>
      )}
    </Loaded>
  )
}
