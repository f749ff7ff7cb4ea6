/** Which weights each model's name serves, and served before; and the way back. */
import type { JSX } from 'preact'
import type { SchemaDeployment, SchemaModel } from '../../sdk/index.ts'
import { Button } from '../shared/button.tsx'
import { toast } from '../shared/toast.tsx'
import { ago, bytes } from './format.ts'
import { ActionNotice, Chip, Loaded, Panel, Question, ViewHead, type Tone } from './parts.tsx'
import { take, useAction, useResource } from './resource.ts'
import { hrefOf } from './route.ts'

const most = 200

const looks: Readonly<Record<SchemaDeployment['state'], readonly [string, Tone]>> = {
  live: ['Live', 'good'],
  superseded: ['Superseded', 'none'],
  rolled_back: ['Rolled back', 'warn'],
  withdrawn: ['Withdrawn', 'none'],
}

export function Deployments(): JSX.Element {
  const serving = useResource(async (client, signal) => {
    const [models, deployments] = await Promise.all([
      client.models.list({ signal }),
      take(client.deployments.list({}, { signal }), most),
    ])
    return { models: models.data, deployments }
  })
  return (
    <>
      <ViewHead title="Deployments" about="Which weights each model’s name serves, and served before." />
      <Loaded of={serving}>
        {({ models, deployments }) => (
          <>
            <Panel title="Serving now">
              <ul class="rows" aria-label="Models">
                {models.map((model) => (
                  <Serving key={model.id} model={model} onChange={serving.reload} />
                ))}
              </ul>
            </Panel>
            <Panel title="What was live when">
              {deployments.length === 0 ? (
                <p class="quiet">
                  Nothing was deployed yet: open <a href={hrefOf({ view: 'jobs' })}>a job</a> and deploy one
                  of its checkpoints.
                </p>
              ) : (
                <ul class="rows" aria-label="Deployments">
                  {deployments.map((deployment) => (
                    <Row key={deployment.id} deployment={deployment} onChange={serving.reload} />
                  ))}
                </ul>
              )}
            </Panel>
          </>
        )}
      </Loaded>
    </>
  )
}

function Serving({
  model,
  onChange,
}: {
  readonly model: SchemaModel
  readonly onChange: () => void
}): JSX.Element {
  const action = useAction()
  const { id, origin, state, size_bytes } = model
  return (
    <li class="rows__row">
      <strong class="rows__name">{id}</strong>
      <Chip tone={state === 'loaded' ? 'good' : 'none'}>
        {state === 'loaded' ? 'Loaded' : 'Loads when asked'}
      </Chip>
      <span class="rows__note rows__note--wide">
        {origin === null ? (
          'as the server was configured'
        ) : (
          <>
            step {origin.step.toLocaleString('en')} of{' '}
            <a href={hrefOf({ view: 'job', id: origin.job })}>its job</a>, on {origin.base_model}
          </>
        )}
      </span>
      <span class="rows__note">{bytes(size_bytes)}</span>
      {origin !== null && (
        <span class="rows__actions">
          <Button
            size="s"
            icon="previous"
            disabled={action.isBusy.value}
            aria-label={`Roll back ${id}`}
            onClick={() =>
              action.run(async (client, asking) => {
                await asking.once(id, (idempotencyKey) => client.models.rollback(id, { idempotencyKey }))
                toast(`${id} serves again what it served before`)
                onChange()
              })
            }
          >
            {action.isBusy.value ? 'Loading it …' : 'Roll back'}
          </Button>
          <Question
            name="Withdraw"
            size="s"
            title={`Withdraw ${id}?`}
            isBusy={action.isBusy}
            onYes={() =>
              action.run(async (client) => {
                await client.models.withdraw(id)
                toast(`${id} is withdrawn`)
                onChange()
              })
            }
          >
            All that was deployed under this name is taken back. A model that the server was configured with
            serves under it again; otherwise the name is unknown from then on.
          </Question>
        </span>
      )}
      <ActionNotice of={action} />
    </li>
  )
}

function Row({
  deployment,
  onChange,
}: {
  readonly deployment: SchemaDeployment
  readonly onChange: () => void
}): JSX.Element {
  const action = useAction()
  const { id, name, state, step, job, created_at, ended_at } = deployment
  const [word, tone] = looks[state]
  return (
    <li class="rows__row">
      <strong class="rows__name">{name}</strong>
      <Chip tone={tone}>{word}</Chip>
      <span class="rows__note rows__note--wide">
        step {step.toLocaleString('en')} of <a href={hrefOf({ view: 'job', id: job })}>its job</a>
      </span>
      <time class="rows__note rows__time" dateTime={new Date(created_at * 1000).toISOString()}>
        {ago(created_at * 1000)}
        {ended_at !== null && `, until ${ago(ended_at * 1000)}`}
      </time>
      {state !== 'live' && (
        <Question
          name="Delete"
          size="s"
          title={`Delete this deployment of ${name}?`}
          isBusy={action.isBusy}
          onYes={() =>
            action.run(async (client) => {
              await client.deployments.delete(id)
              toast('The deployment is gone')
              onChange()
            })
          }
        >
          Its weights are removed, and nothing can be rolled back to them.
        </Question>
      )}
      <ActionNotice of={action} />
    </li>
  )
}
