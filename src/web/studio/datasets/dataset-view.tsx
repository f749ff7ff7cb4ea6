/** One dataset: how it stands, what is in it, and what is wrong with it. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaDataset } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { toast } from '../../shared/toast.tsx'
import { ago, bytes, percent, plural } from '../format.ts'
import { ActionNotice, Figures, Loaded, Panel, Question, ViewHead } from '../parts.tsx'
import { useAction, useResource } from '../resource.ts'
import { go } from '../route.ts'
import { Buckets } from './buckets.tsx'
import { Items } from './items.tsx'
import { Problems } from './problems.tsx'
import { DatasetState, isComing } from './state.tsx'

export function DatasetView({ id }: { readonly id: string }): JSX.Element {
  const resolution = useSignal(256)
  const dataset = useResource(
    (client, signal) => client.datasets.retrieve(id, { signal, resolution: resolution.value }),
    (heard) => (isComing(heard) ? 700 : undefined),
  )
  return (
    <>
      {dataset.value.value === undefined && (
        <ViewHead title="Dataset" up={{ name: 'Datasets', to: { view: 'datasets' } }} />
      )}
      <Loaded of={dataset}>
        {(heard) => (
          <>
            <Head {...heard} />
            {isComing(heard) && <Coming {...heard} />}
            {heard.error && (
              <div class="notice" role="alert">
                <div />
                <div>
                  <p class="notice__title">It could not be used</p>
                  <p class="notice__advice">
                    {heard.error.message}. Mend the archive and upload it again; this one can be deleted.
                  </p>
                </div>
              </div>
            )}
            <Stand {...heard} />
            {heard.buckets && heard.buckets.length > 0 && (
              <Buckets
                buckets={heard.buckets}
                resolution={resolution.value}
                onResolution={(next) => (resolution.value = next)}
              />
            )}
            {heard.counts.problems > 0 && heard.state !== 'receiving' && (
              <Problems id={id} count={heard.counts.problems} />
            )}
            {heard.state === 'ready' && (
              <Panel title="Pictures">
                <Items id={id} />
              </Panel>
            )}
          </>
        )}
      </Loaded>
    </>
  )
}

function Head({ id, name, state, created_at, source }: SchemaDataset): JSX.Element {
  const action = useAction()
  const remove = () =>
    action.run(async (client) => {
      await client.datasets.delete(id)
      toast('The dataset is gone')
      go({ view: 'datasets' })
    })
  return (
    <>
      <ViewHead
        title={name}
        up={{ name: 'Datasets', to: { view: 'datasets' } }}
        mark={<DatasetState state={state} />}
        about={`${source.kind === 'upload' ? 'Uploaded' : 'Copied from the server'} ${ago(Date.parse(created_at))}`}
      >
        <Question name="Delete" icon="trash" title={`Delete ${name}?`} isBusy={action.isBusy} onYes={remove}>
          Its pictures and captions are removed for good. Jobs that were trained on it stay.
        </Question>
        {state === 'ready' && (
          <Button kind="primary" icon="spark" onClick={() => go({ view: 'new job', dataset: id })}>
            Fine-tune on it
          </Button>
        )}
      </ViewHead>
      <ActionNotice of={action} />
    </>
  )
}

function Coming({ state, source, counts }: SchemaDataset): JSX.Element {
  const { received_bytes: received, expected_bytes: expected } = source
  const isArriving = state === 'receiving'
  return (
    <output class="progress-line">
      <progress
        class="progress"
        aria-label={isArriving ? 'Arriving' : 'Being checked'}
        {...(isArriving && received !== null && expected !== null && { value: received, max: expected })}
      />
      <span>
        {isArriving ? `${bytes(received ?? 0)} have arrived` : `${plural(counts.files_read, 'file')} checked`}
      </span>
    </output>
  )
}

function Stand({ counts, captioned_share: captioned, labels }: SchemaDataset): JSX.Element {
  return (
    <Figures
      of={[
        { name: 'Pictures', value: counts.items.toLocaleString('en'), note: bytes(counts.size_bytes) },
        {
          name: 'Captioned',
          value: captioned === null ? '–' : percent(captioned),
          note: `${counts.captioned} of ${counts.items}`,
        },
        {
          name: 'Labels',
          value: (labels?.length ?? 0).toLocaleString('en'),
          note:
            labels
              ?.slice(0, 3)
              .map(({ label }) => label)
              .join(', ') || 'none',
        },
        {
          name: 'Problems',
          value: counts.problems.toLocaleString('en'),
          note: counts.left_out > 0 ? `${plural(counts.left_out, 'file')} left out` : 'nothing left out',
        },
      ]}
    />
  )
}
