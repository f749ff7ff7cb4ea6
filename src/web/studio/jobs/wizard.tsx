/** A job before it is one: what is to learn from what, in which stages, and beside it what that will take. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaDataset } from '../../../sdk/index.ts'
import { Field, Segments } from '../../shared/field.tsx'
import { toast } from '../../shared/toast.tsx'
import { plural } from '../format.ts'
import { ActionNotice, Empty, Loaded, Panel, ViewHead } from '../parts.tsx'
import { take, useAction, useResource } from '../resource.ts'
import { go, hrefOf } from '../route.ts'
import { emptyDraft, requestOf, type JobDraft } from './draft.ts'
import { NumberField } from './number-field.tsx'
import { PlanPanel } from './plan-panel.tsx'
import { usePlan, useSuggestedPrompts } from './planning.ts'
import { Prompts } from './prompts.tsx'
import { Stages } from './stages.tsx'

interface Choice {
  readonly models: readonly string[]
  readonly datasets: readonly SchemaDataset[]
}

export function Wizard({ dataset }: { readonly dataset: string | undefined }): JSX.Element {
  const choice = useResource<Choice>(async (client, signal) => {
    const [models, datasets] = await Promise.all([
      client.models.list({ signal }),
      take(client.datasets.list({ limit: 100 }, { signal }), 200),
    ])
    return {
      models: models.data.map(({ id }) => id),
      datasets: datasets.filter(({ state }) => state === 'ready'),
    }
  })
  return (
    <>
      <ViewHead
        title="New job"
        up={{ name: 'Jobs', to: { view: 'jobs' } }}
        about="Every number has a default. Nothing begins before you have seen what it takes."
      />
      <Loaded of={choice}>
        {(known) =>
          known.datasets.length === 0 ? (
            <Empty icon="images" title="First, something to learn from">
              <p>
                <a href={hrefOf({ view: 'datasets' })}>Upload pictures</a> with a caption each, then come
                back.
              </p>
            </Empty>
          ) : (
            <JobForm choice={known} dataset={dataset} />
          )
        }
      </Loaded>
    </>
  )
}

function JobForm({
  choice: { models, datasets },
  dataset,
}: {
  readonly choice: Choice
  readonly dataset: string | undefined
}): JSX.Element {
  const draft = useSignal<JobDraft>({
    ...emptyDraft(dataset ?? datasets[0]?.id),
    model: models[0] ?? '',
  })
  const { plan, refused, isPlanning, planAgain } = usePlan(draft)
  const creation = useAction()
  const change = (changes: Partial<JobDraft>) => (draft.value = { ...draft.value, ...changes })

  useSuggestedPrompts(draft)
  const create = () =>
    creation.run(async (client, asking) => {
      const request = requestOf(draft.peek())
      const { id } = await asking.once(JSON.stringify(request), (idempotencyKey) =>
        client.fineTuning.jobs.create(request, { idempotencyKey }),
      )
      toast('The job is on its way')
      go({ view: 'job', id })
    })
  const written = draft.value
  const errorAt = (param: string): string | undefined =>
    refused.value && refused.value.param.replace(/\[(\d+)\]/g, '.$1') === param
      ? refused.value.problem.advice
      : undefined
  const steps = plan.value?.estimate.steps
  return (
    <form
      class="wizard"
      onSubmit={(event) => {
        event.preventDefault()
        if (!refused.value && !isPlanning.value) create()
      }}
    >
      <div class="wizard__form">
        <Panel title="What learns from what">
          <div class="fields">
            <Field label="Model" error={errorAt('model')}>
              {(control) => (
                <select
                  {...control}
                  class="input"
                  value={written.model}
                  onChange={(event) => change({ model: event.currentTarget.value })}
                >
                  {models.map((id) => (
                    <option key={id} value={id}>
                      {id}
                    </option>
                  ))}
                </select>
              )}
            </Field>
            <Field label="Dataset" error={errorAt('dataset')}>
              {(control) => (
                <select
                  {...control}
                  class="input"
                  value={written.dataset}
                  onChange={(event) => change({ dataset: event.currentTarget.value, prompts: [] })}
                >
                  {datasets.map(({ id, name, counts }) => (
                    <option key={id} value={id}>
                      {name} · {plural(counts.items, 'picture')}
                    </option>
                  ))}
                </select>
              )}
            </Field>
            <Segments
              label="Method"
              options={[
                { value: 'lora', name: 'LoRA' },
                { value: 'full', name: 'All weights' },
              ]}
              value={written.method}
              onChange={(method) => change({ method })}
            />
            {written.method === 'lora' && (
              <NumberField
                label="Rank"
                hint="Higher learns more, and takes more memory."
                fallback={plan.value?.method.rank}
                value={written.rank}
                error={errorAt('method.rank')}
                onChange={(rank) => change({ rank })}
              />
            )}
            {written.method === 'full' && (
              <p class="field__hint">Learns most and takes most memory; its checkpoints are whole models.</p>
            )}
          </div>
        </Panel>
        <Stages
          stages={written.stages}
          planned={plan.value?.stages ?? []}
          errorAt={errorAt}
          onChange={(stages) => change({ stages })}
        />
        <Panel title="Samples on the way">
          <Prompts prompts={written.prompts} onChange={(prompts) => change({ prompts })} />
          <div class="fields">
            <NumberField
              label="Steps between sample sheets"
              fallback={plan.value?.samples.every}
              suggestion={steps === undefined ? undefined : Math.ceil(steps / 10)}
              value={written.samplesEvery}
              error={errorAt('samples.every')}
              onChange={(samplesEvery) => change({ samplesEvery })}
            />
            <NumberField
              label="Steps between checkpoints"
              fallback={plan.value?.checkpoint_every}
              suggestion={steps === undefined ? undefined : Math.ceil(steps / 4)}
              value={written.checkpointEvery}
              error={errorAt('checkpoint_every')}
              onChange={(checkpointEvery) => change({ checkpointEvery })}
            />
          </div>
        </Panel>
        <Panel title="Name and safety">
          <div class="fields">
            <Field
              label="Suffix"
              hint={`It will serve as ${written.model}${written.suffix.trim() === '' ? '' : `-${written.suffix.trim()}`} unless you say otherwise.`}
              error={errorAt('suffix')}
            >
              {(control) => (
                <input
                  {...control}
                  class="input"
                  placeholder="house-style"
                  maxLength={64}
                  value={written.suffix}
                  onInput={(event) => change({ suffix: event.currentTarget.value })}
                />
              )}
            </Field>
            <NumberField
              label="Seed"
              hint="The same seed makes the same job again."
              placeholder="drawn"
              value={written.seed}
              error={errorAt('seed')}
              onChange={(seed) => change({ seed })}
            />
            <Segments
              label="Files that cannot be trained on"
              options={[
                { value: 'fail', name: 'Refuse the job' },
                { value: 'skip', name: 'Leave them out' },
              ]}
              value={written.skipBadData}
              onChange={(skipBadData) => change({ skipBadData })}
            />
          </div>
        </Panel>
      </div>
      <div class="wizard__plan">
        <PlanPanel
          plan={plan.value}
          problem={refused.value?.problem}
          isPlanning={isPlanning.value}
          isCreating={creation.isBusy.value}
          onRetry={planAgain}
        />
        <ActionNotice of={creation} />
      </div>
    </form>
  )
}
