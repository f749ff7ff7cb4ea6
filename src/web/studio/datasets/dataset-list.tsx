/** All datasets, and the way to bring another. */
import type { JSX } from 'preact'
import type { SchemaDataset } from '../../../sdk/index.ts'
import { ago, bytes, percent, plural } from '../format.ts'
import { Loaded, ViewHead } from '../parts.tsx'
import { take, useResource } from '../resource.ts'
import { hrefOf } from '../route.ts'
import { DatasetState, isComing } from './state.tsx'
import { Upload } from './upload.tsx'

const most = 200

export function DatasetList(): JSX.Element {
  const datasets = useResource(
    (client, signal) => take(client.datasets.list({ limit: 100 }, { signal }), most),
    (listed) => (listed.some(isComing) ? 1_500 : undefined),
  )
  return (
    <>
      <ViewHead title="Datasets" about="Pictures with captions, which models learn from." />
      <Upload />
      <Loaded of={datasets}>
        {(listed) =>
          listed.length === 0 ? (
            <p class="quiet">
              There is none yet. A dozen pictures with a caption each is enough to begin: the folder{' '}
              <code>examples/shapes</code> is one to try, packed by{' '}
              <code>tar czf shapes.tar.gz -C examples shapes</code>.
            </p>
          ) : (
            <ul class="rows" aria-label="Datasets">
              {listed.map((dataset) => (
                <Row key={dataset.id} {...dataset} />
              ))}
            </ul>
          )
        }
      </Loaded>
    </>
  )
}

function Row({
  id,
  name,
  state,
  counts,
  captioned_share: captioned,
  created_at,
}: SchemaDataset): JSX.Element {
  return (
    <li class="rows__row">
      <a class="rows__link" href={hrefOf({ view: 'dataset', id })}>
        {name}
      </a>
      <DatasetState state={state} />
      <span class="rows__note">{plural(counts.items, 'picture')}</span>
      <span class="rows__note">{captioned === null ? '' : `${percent(captioned)} captioned`}</span>
      <span class="rows__note">
        {counts.problems > 0 ? plural(counts.problems, 'problem') : bytes(counts.size_bytes)}
      </span>
      <time class="rows__note rows__time" dateTime={created_at}>
        {ago(Date.parse(created_at))}
      </time>
    </li>
  )
}
