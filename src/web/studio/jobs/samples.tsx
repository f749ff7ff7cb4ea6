/** What the job's prompts looked like after so many steps, always from the same seeds: a slider goes through them. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import type { SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Loaded, Panel } from '../parts.tsx'
import { take, useResource } from '../resource.ts'
import { sheetsOf, type Sheet } from './sheets.ts'
import { SampleSheet } from './sample-sheet.tsx'

const most = 2_000

export interface SamplesProps {
  readonly id: string
  readonly job: SchemaFineTuningJob
  /** Grows whenever there are more. */
  readonly made: number
}

export function Samples({ id, job, made }: SamplesProps): JSX.Element {
  const sheets = useResource(async (client, signal) =>
    sheetsOf(await take(client.fineTuning.jobs.samples(id, { signal }), most)),
  )
  useEffect(() => {
    if (made > 0) sheets.reload()
  }, [made])
  return (
    <Panel title="Samples">
      <Loaded of={sheets}>
        {(listed) =>
          listed.length === 0 ? (
            <p class="quiet">
              The first ones come after {Math.min(job.samples.every, job.progress.steps).toLocaleString('en')}{' '}
              steps.
            </p>
          ) : (
            <Sheets sheets={listed} prompts={job.samples.prompts} />
          )
        }
      </Loaded>
    </Panel>
  )
}

interface SheetsProps {
  readonly sheets: readonly Sheet[]
  readonly prompts: SchemaFineTuningJob['samples']['prompts']
}

function Sheets({ sheets, prompts }: SheetsProps): JSX.Element {
  /** undefined is the newest, also when a newer one comes. */
  const chosen = useSignal<number | undefined>(undefined)
  const last = sheets.length - 1
  const index = Math.min(chosen.value ?? last, last)
  const sheet = sheets[index]
  return (
    <>
      <div class="scrub">
        <label class="scrub__label" for="samples-step">
          After step <strong>{sheet?.step.toLocaleString('en')}</strong>
        </label>
        <input
          id="samples-step"
          class="slider"
          type="range"
          min={0}
          max={last}
          step={1}
          value={index}
          disabled={last === 0}
          aria-valuetext={`after step ${sheet?.step}`}
          onInput={(event) => {
            const next = event.currentTarget.valueAsNumber
            chosen.value = next === last ? undefined : next
          }}
        />
        <span class="scrub__count">
          {index + 1} of {sheets.length}
        </span>
      </div>
      {sheet && <SampleSheet sheet={sheet} prompts={prompts} />}
    </>
  )
}
