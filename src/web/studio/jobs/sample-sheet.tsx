/** One sheet of samples: a picture for each prompt. */
import type { JSX } from 'preact'
import type { SchemaFineTuningJob } from '../../../sdk/index.ts'
import type { Sheet } from './sheets.ts'

export interface SampleSheetProps {
  readonly sheet: Sheet
  readonly prompts: SchemaFineTuningJob['samples']['prompts']
}

export function SampleSheet({ sheet, prompts }: SampleSheetProps): JSX.Element {
  return (
    <ul class="sheet" aria-label={`Samples after step ${sheet.step}`}>
      {prompts.map(({ prompt, seed }, index) => {
        const sample = sheet.samples.find((each) => each.index === index)
        return (
          // A prompt is told by its place alone: two may be alike.
          // oxlint-disable-next-line no-array-index-key
          <li key={index} class="sheet__one">
            {sample ? (
              <img
                src={sample.url}
                alt={`${prompt || 'no words'}, after step ${sheet.step}`}
                width={sample.width}
                height={sample.height}
                decoding="async"
              />
            ) : (
              <div class="sheet__missing">being drawn</div>
            )}
            <p class="sheet__prompt">
              {prompt || 'no words'} <span>seed {seed}</span>
            </p>
          </li>
        )
      })}
    </ul>
  )
}
