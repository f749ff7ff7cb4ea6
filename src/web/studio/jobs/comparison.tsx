/** Two checkpoints side by side: the same prompts from the same seeds. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import type { SchemaFineTuningCheckpoint, SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Field } from '../../shared/field.tsx'
import { Loaded } from '../parts.tsx'
import { take, useResource } from '../resource.ts'
import { SampleSheet } from './sample-sheet.tsx'
import { sheetOf, sheetsOf, type Sheet } from './sheets.ts'

const most = 2_000

export interface ComparisonProps {
  readonly job: SchemaFineTuningJob
  /** Newest first. */
  readonly checkpoints: readonly SchemaFineTuningCheckpoint[]
  readonly made: number
}

export function Comparison({ job, checkpoints, made }: ComparisonProps): JSX.Element {
  const sheets = useResource(async (client, signal) =>
    sheetsOf(await take(client.fineTuning.jobs.samples(job.id, { signal }), most)),
  )
  useEffect(() => {
    if (made > 0) sheets.reload()
  }, [made])
  const left = useSignal(checkpoints.at(-1)?.id)
  const right = useSignal(checkpoints[0]?.id)
  const sides = [
    { name: 'Left', chosen: left },
    { name: 'Right', chosen: right },
  ] as const
  return (
    <Loaded of={sheets}>
      {(listed) => (
        <div class="comparison">
          {sides.map(({ name, chosen }) => {
            const checkpoint = checkpoints.find(({ id }) => id === chosen.value) ?? checkpoints[0]
            const sheet = checkpoint && sheetOf(listed, checkpoint.step_number)
            return (
              <section key={name} class="comparison__side" aria-label={name}>
                <Field label={`${name} checkpoint`} hint={sheet && checkpoint && drawnAt(sheet, checkpoint)}>
                  {(control) => (
                    <select
                      {...control}
                      class="input"
                      value={checkpoint?.id}
                      onChange={(event) => (chosen.value = event.currentTarget.value)}
                    >
                      {checkpoints.map(({ id, step_number: step }) => (
                        <option key={id} value={id}>
                          Step {step}
                        </option>
                      ))}
                    </select>
                  )}
                </Field>
                {sheet && <SampleSheet sheet={sheet} prompts={job.samples.prompts} />}
              </section>
            )
          })}
        </div>
      )}
    </Loaded>
  )
}

const drawnAt = (sheet: Sheet, { step_number: step }: SchemaFineTuningCheckpoint): string =>
  sheet.step === step
    ? 'Drawn by exactly these weights'
    : `Drawn after step ${sheet.step}, the nearest that was`
