/** What each finished stage changed, on pictures that it was not trained on. */
import type { JSX } from 'preact'
import type { SchemaFineTuningReport } from '../../../sdk/index.ts'
import { duration, figure, percent, plural } from '../format.ts'
import { Panel } from '../parts.tsx'

export function Reports({ reports }: { readonly reports: readonly SchemaFineTuningReport[] }): JSX.Element {
  return (
    <Panel title="What was learned">
      <ul class="rows">
        {reports.map(({ stage, kind, steps, held_out: heldOut, largest_change: change, use }) => (
          <li key={stage} class="rows__row">
            <strong class="rows__name">
              {stage + 1}. {kind}
            </strong>
            <span class="rows__note rows__note--wide">
              {heldOut
                ? `Loss on ${plural(heldOut.pictures, 'held-out picture')}: ${figure(heldOut.loss_before)} → ${figure(heldOut.loss_after)}`
                : 'No pictures were held out'}
            </span>
            <span class="rows__note" title={change.parameter}>
              largest change {percent(change.relative)}
            </span>
            <span class="rows__note">
              {plural(steps, 'step')} in {duration(use.device_hours * 3600)}
            </span>
          </li>
        ))}
      </ul>
    </Panel>
  )
}
