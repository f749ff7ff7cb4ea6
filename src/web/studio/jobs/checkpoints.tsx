/** What the job has saved, what two of them draw of the same seeds, and the way to put one live. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import type { SchemaFineTuningCheckpoint, SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { ago, bytes, figure } from '../format.ts'
import { Chip, Loaded, Panel } from '../parts.tsx'
import { take, useResource } from '../resource.ts'
import { Comparison } from './comparison.tsx'
import { DeployDialog } from './deploy-dialog.tsx'

const most = 500

export interface CheckpointsProps {
  readonly job: SchemaFineTuningJob
  /** Grows whenever there are more. */
  readonly made: number
  readonly onDeployed: () => void
}

export function Checkpoints({ job, made, onDeployed }: CheckpointsProps): JSX.Element {
  const checkpoints = useResource((client, signal) =>
    take(client.fineTuning.checkpoints.list(job.id, { signal }), most),
  )
  const chosen = useSignal<SchemaFineTuningCheckpoint | undefined>(undefined)
  const isComparing = useSignal(false)
  useEffect(() => {
    if (made > 0) checkpoints.reload()
  }, [made])
  const listed = checkpoints.value.value ?? []
  const canCompare = listed.length > 1 && job.samples.prompts.length > 0
  return (
    <Panel
      title="Checkpoints"
      aside={
        canCompare && (
          <Button
            size="s"
            icon="images"
            aria-pressed={isComparing.value}
            onClick={() => (isComparing.value = !isComparing.value)}
          >
            Side by side
          </Button>
        )
      }
    >
      <Loaded of={checkpoints}>
        {(heard) =>
          heard.length === 0 ? (
            <p class="quiet">
              The first one is saved after{' '}
              {Math.min(job.checkpoint_every, job.stages[0]?.steps ?? Infinity).toLocaleString('en')} steps.
            </p>
          ) : (
            <>
              {isComparing.value && canCompare && <Comparison job={job} checkpoints={heard} made={made} />}
              <ul class="rows" aria-label="Checkpoints">
                {heard.map((checkpoint) => (
                  <Row
                    key={checkpoint.id}
                    checkpoint={checkpoint}
                    onDeploy={() => (chosen.value = checkpoint)}
                  />
                ))}
              </ul>
            </>
          )
        }
      </Loaded>
      <DeployDialog
        job={job}
        checkpoint={chosen.value}
        onClose={() => (chosen.value = undefined)}
        onDeployed={() => {
          checkpoints.reload()
          onDeployed()
        }}
      />
    </Panel>
  )
}

function Row({
  checkpoint,
  onDeploy,
}: {
  readonly checkpoint: SchemaFineTuningCheckpoint
  readonly onDeploy: () => void
}): JSX.Element {
  const {
    step_number: step,
    stage,
    metrics,
    size_bytes,
    created_at,
    fine_tuned_model_checkpoint: name,
  } = checkpoint
  return (
    <li class="rows__row">
      <strong class="rows__name">Step {step.toLocaleString('en')}</strong>
      {name === null ? (
        <span class="rows__note">stage {stage + 1}</span>
      ) : (
        <Chip tone="good">serves as {name}</Chip>
      )}
      <span class="rows__note">{metrics === null ? '' : `loss ${figure(metrics.loss)}`}</span>
      <span class="rows__note">{bytes(size_bytes)}</span>
      <time class="rows__note rows__time" dateTime={new Date(created_at * 1000).toISOString()}>
        {ago(created_at * 1000)}
      </time>
      <Button size="s" icon="rocket" aria-label={`Deploy step ${step}`} onClick={onDeploy}>
        Deploy
      </Button>
    </li>
  )
}
