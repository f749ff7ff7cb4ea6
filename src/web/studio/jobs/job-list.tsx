/** All jobs; where there is none, the way to the first one. */
import type { JSX } from 'preact'
import type { SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { ago, duration, plural } from '../format.ts'
import { Empty, Loaded, ViewHead } from '../parts.tsx'
import { take, useResource } from '../resource.ts'
import { go, hrefOf } from '../route.ts'
import { isMoving, JobStatus, nameOf } from './status.tsx'

const most = 200

const begin = () => go({ view: 'new job', dataset: undefined })

export function JobList(): JSX.Element {
  const jobs = useResource(
    (client, signal) => take(client.fineTuning.jobs.list({ limit: 100 }, { signal }), most),
    (listed) => (listed.some(isMoving) ? 2_000 : 15_000),
  )
  return (
    <>
      <ViewHead title="Jobs" about="Models that learn from your pictures, in the time that requests leave.">
        <Button kind="primary" icon="plus" onClick={begin}>
          New job <kbd>n</kbd>
        </Button>
      </ViewHead>
      <Loaded of={jobs}>
        {(listed) =>
          listed.length === 0 ? (
            <FirstSteps />
          ) : (
            <ul class="rows" aria-label="Jobs">
              {listed.map((job) => (
                <Row key={job.id} {...job} />
              ))}
            </ul>
          )
        }
      </Loaded>
    </>
  )
}

function FirstSteps(): JSX.Element {
  return (
    <Empty icon="spark" title="Teach a model something of yours">
      <ol class="first-steps">
        <li>
          <a href={hrefOf({ view: 'datasets' })}>Upload pictures</a> with a caption each; a dozen are enough
          to begin.
        </li>
        <li>
          <a href={hrefOf({ view: 'new job', dataset: undefined })}>Begin a job</a>: every number has a
          default, and you see what it takes before it starts.
        </li>
        <li>Watch the samples, and deploy the checkpoint that you like.</li>
      </ol>
    </Empty>
  )
}

function Row(job: SchemaFineTuningJob): JSX.Element {
  const { id, method, stages, progress, created_at, estimated_finish } = job
  const left = estimated_finish === null ? undefined : estimated_finish - Date.now() / 1000
  return (
    <li class="rows__row">
      <a class="rows__link" href={hrefOf({ view: 'job', id })}>
        {nameOf(job)}
      </a>
      <JobStatus {...job} />
      <span class="rows__note">
        {method.type === 'lora' ? 'LoRA' : 'All weights'} · {stages.map(({ kind }) => kind).join(', ')}
      </span>
      <span class="rows__note rows__meter">
        <progress class="progress" aria-label="Steps" max={progress.steps} value={progress.step} />
        {progress.step.toLocaleString('en')}/{progress.steps.toLocaleString('en')}
      </span>
      <span class="rows__note">
        {left !== undefined && left > 0 ? `${duration(left)} left` : plural(progress.steps, 'step')}
      </span>
      <time class="rows__note rows__time" dateTime={new Date(created_at * 1000).toISOString()}>
        {ago(created_at * 1000)}
      </time>
    </li>
  )
}
