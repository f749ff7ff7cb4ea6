/** One job: how far it is, what it learns, what it has drawn and saved, and what can be done with that. */
import { useSignal, useSignalEffect } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaFineTuningEvent, SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { atelier } from '../../shared/session.ts'
import { toast } from '../../shared/toast.tsx'
import { at, bytes, duration, figure, percent, plural } from '../format.ts'
import { lazy } from '../lazy.tsx'
import { ActionNotice, Figures, Loaded, Panel, Question, ViewHead } from '../parts.tsx'
import { isFinal, useAction, useResource, type Action } from '../resource.ts'
import { go, hrefOf } from '../route.ts'
import { Checkpoints } from './checkpoints.tsx'
import { EventLog } from './event-log.tsx'
import { Reports } from './reports.tsx'
import { Samples } from './samples.tsx'
import { hasEnded, isMoving, JobStatus, nameOf } from './status.tsx'

const Charts = lazy(async () => (await import('./charts.tsx')).Charts)

/** Events of steps come every few seconds; what is drawn from them is asked for at once after this. */
const togetherMs = 400
const afterLossMs = 3_000
const keptEvents = 400

export function JobView({ id }: { readonly id: string }): JSX.Element {
  const job = useResource(
    (client, signal) => client.fineTuning.jobs.retrieve(id, { signal }),
    (heard) => (isMoving(heard) ? 1_500 : 10_000),
  )
  const { events, made } = useEvents(id)
  return (
    <>
      {job.value.value === undefined && <ViewHead title="Job" up={{ name: 'Jobs', to: { view: 'jobs' } }} />}
      <Loaded of={job}>
        {(heard) => (
          <>
            <Head job={heard} onChange={job.put} />
            <Progress job={heard} />
            <Charts id={id} steps={heard.progress.steps} isRunning={isMoving(heard)} />
            {heard.samples.prompts.length > 0 && <Samples id={id} job={heard} made={made} />}
            <Checkpoints job={heard} made={made} onDeployed={job.reload} />
            {heard.reports.length > 0 && <Reports reports={heard.reports} />}
            <Panel title="Events">
              <EventLog events={events} />
            </Panel>
          </>
        )}
      </Loaded>
    </>
  )
}

/** @returns what happened, newest first, and a number that grows whenever a sample or a checkpoint was made */
function useEvents(id: string): { readonly events: readonly SchemaFineTuningEvent[]; readonly made: number } {
  const events = useSignal<readonly SchemaFineTuningEvent[]>([])
  const made = useSignal(0)
  useSignalEffect(() => {
    const client = atelier.value
    const ended = new AbortController()
    let waiting: SchemaFineTuningEvent[] = []
    let [timer, again]: ReturnType<typeof setTimeout>[] = []
    const show = () => {
      timer = undefined
      if (waiting.some(({ event }) => event === 'sample' || event === 'checkpoint')) made.value += 1
      const told = waiting.filter(({ event }) => event !== 'metrics').toReversed()
      events.value = [...told, ...events.peek()].slice(0, keptEvents)
      waiting = []
    }
    const follow = async () => {
      for await (const event of client.fineTuning.jobs.events(id, { signal: ended.signal })) {
        waiting.push(event)
        timer ??= setTimeout(show, togetherMs)
      }
    }
    // What is wrong with the connection, asking for the job tells as well.
    const keepFollowing = async () => {
      waiting = []
      events.value = []
      try {
        await follow()
      } catch (error) {
        if (!ended.signal.aborted && !isFinal(error))
          again = setTimeout(() => void keepFollowing(), afterLossMs)
      }
    }
    void keepFollowing()
    return () => {
      ended.abort()
      clearTimeout(timer)
      clearTimeout(again)
    }
  })
  return { events: events.value, made: made.value }
}

interface HeadProps {
  readonly job: SchemaFineTuningJob
  readonly onChange: (job: SchemaFineTuningJob) => void
}

function Head({ job, onChange }: HeadProps): JSX.Element {
  const action = useAction()
  const { method, stages, dataset, created_at } = job
  return (
    <>
      <ViewHead
        title={nameOf(job)}
        up={{ name: 'Jobs', to: { view: 'jobs' } }}
        mark={<JobStatus {...job} />}
        about={
          <>
            {method.type === 'lora' ? `LoRA of rank ${method.rank}` : 'All weights'} of {job.model} ·{' '}
            {stages.map(({ kind }) => kind).join(' → ')} ·{' '}
            <a href={hrefOf({ view: 'dataset', id: dataset })}>its dataset</a> · {at(created_at * 1000)}
          </>
        }
      >
        <Controls job={job} action={action} onChange={onChange} />
      </ViewHead>
      <ActionNotice of={action} />
      {job.error && (
        <div class="notice" role="alert">
          <div />
          <div>
            <p class="notice__title">It failed</p>
            <p class="notice__advice">{job.error.message}</p>
          </div>
        </div>
      )}
    </>
  )
}

function Controls({ job, action, onChange }: HeadProps & { readonly action: Action }): JSX.Element {
  const { id, status, pausing } = job
  const { run, isBusy } = action
  const jobs = () => atelier.peek().fineTuning.jobs
  if (hasEnded(job))
    return (
      <Question
        name="Delete"
        icon="trash"
        title="Delete this job?"
        isBusy={isBusy}
        onYes={() =>
          run(async () => {
            await jobs().delete(id)
            toast('The job is gone')
            go({ view: 'jobs' })
          })
        }
      >
        Its metrics, samples and checkpoints are removed for good. What is deployed of it goes on serving.
      </Question>
    )
  return (
    <>
      <Question
        name="Cancel"
        icon="stop"
        title="Cancel this job?"
        isBusy={isBusy}
        onYes={() => run(async () => onChange(await jobs().cancel(id)))}
      >
        It ends for good after the step at hand. Its checkpoints stay and can be deployed; to go on later,
        pause it instead.
      </Question>
      {status === 'paused' || pausing ? (
        <Button
          kind="primary"
          icon="play"
          disabled={isBusy.value}
          onClick={() => run(async () => onChange(await jobs().resume(id)))}
        >
          Resume
        </Button>
      ) : (
        <Button
          icon="pause"
          disabled={isBusy.value}
          onClick={() => run(async () => onChange(await jobs().pause(id)))}
        >
          Pause
        </Button>
      )}
    </>
  )
}

function Progress({ job }: { readonly job: SchemaFineTuningJob }): JSX.Element {
  const { progress, estimated_finish, estimate, use, started_at, finished_at } = job
  const now = Date.now() / 1000
  const left = estimated_finish === null ? estimate.expected_seconds : Math.max(0, estimated_finish - now)
  const took = started_at === null || finished_at === null ? undefined : finished_at - started_at
  return (
    <>
      <progress
        class="progress progress--wide"
        aria-label="Progress"
        max={progress.steps}
        value={progress.step}
      />
      <Figures
        of={[
          {
            name: 'Steps',
            value: progress.step.toLocaleString('en'),
            note: `of ${progress.steps.toLocaleString('en')} · ${percent(progress.step / progress.steps)}`,
          },
          took === undefined
            ? {
                name: 'Time left',
                value: duration(left),
                note: estimated_finish === null ? 'as planned' : 'at this pace',
              }
            : { name: 'Took', value: duration(took), note: plural(job.attempt, 'run') },
          {
            name: 'Energy',
            value: `${figure(use.energy_kwh * 1000)} Wh`,
            note: `${duration(use.device_hours * 3600)} of device time`,
          },
          {
            name: 'Pictures',
            value: (job.pictures?.used ?? estimate.pictures).toLocaleString('en'),
            note: `needs ${bytes(estimate.memory_bytes)} of memory`,
          },
        ]}
      />
    </>
  )
}
