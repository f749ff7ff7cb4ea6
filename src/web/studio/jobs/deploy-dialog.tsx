/** Puts a checkpoint live under a name, which may be one that serves already. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaFineTuningCheckpoint, SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { Dialog } from '../../shared/dialog.tsx'
import { Field } from '../../shared/field.tsx'
import { toast } from '../../shared/toast.tsx'
import { ActionNotice } from '../parts.tsx'
import { useAction, useResource } from '../resource.ts'
import { nameOf } from './status.tsx'

export interface DeployDialogProps {
  readonly job: SchemaFineTuningJob
  /** Open while there is one. */
  readonly checkpoint: SchemaFineTuningCheckpoint | undefined
  readonly onClose: () => void
  readonly onDeployed: () => void
}

export function DeployDialog({ job, checkpoint, onClose, onDeployed }: DeployDialogProps): JSX.Element {
  return (
    <Dialog
      title={`Deploy step ${checkpoint?.step_number.toLocaleString('en') ?? ''}`}
      open={checkpoint !== undefined}
      onClose={onClose}
    >
      {checkpoint && (
        <DeployForm job={job} checkpoint={checkpoint} onClose={onClose} onDeployed={onDeployed} />
      )}
    </Dialog>
  )
}

interface DeployFormProps extends DeployDialogProps {
  readonly checkpoint: SchemaFineTuningCheckpoint
}

function DeployForm({ job, checkpoint, onClose, onDeployed }: DeployFormProps): JSX.Element {
  const name = useSignal(nameOf(job))
  const models = useResource(async (client, signal) => (await client.models.list({ signal })).data)
  const action = useAction()
  const serves = models.value.value?.some(({ id }) => id === name.value.trim())
  const deploy = () =>
    action.run(async (client, asking) => {
      const wanted = { name: name.value.trim() }
      const deployment = await asking.once(wanted.name, (idempotencyKey) =>
        client.fineTuning.checkpoints.deploy(job.id, checkpoint.id, wanted, { idempotencyKey }),
      )
      toast(`${deployment.name} serves it now`)
      onDeployed()
      onClose()
    })
  return (
    <form
      class="dialog__form"
      onSubmit={(event) => {
        event.preventDefault()
        deploy()
      }}
    >
      <Field
        label="Serve it as"
        hint={
          serves
            ? 'This name serves already and is taken over without a pause; you can roll back under Deployments.'
            : 'A new name: nothing that serves now changes.'
        }
      >
        {(control) => (
          <input
            {...control}
            class="input"
            required
            maxLength={128}
            spellcheck={false}
            autocomplete="off"
            // oxlint-disable-next-line no-autofocus
            autofocus
            value={name.value}
            onInput={(event) => (name.value = event.currentTarget.value)}
          />
        )}
      </Field>
      <ActionNotice of={action} />
      <div class="dialog__actions">
        <Button onClick={onClose}>Not now</Button>
        <Button kind="primary" type="submit" icon="rocket" disabled={action.isBusy.value}>
          {action.isBusy.value ? 'Loading it …' : serves ? 'Take it over' : 'Deploy'}
        </Button>
      </div>
    </form>
  )
}
