/** What each device did in the last minutes, serving and training apart. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaDevice } from '../../../sdk/index.ts'
import { Segments } from '../../shared/field.tsx'
import { duration, percent, plural } from '../format.ts'
import { Chip, Loaded, Panel, ViewHead, type Tone } from '../parts.tsx'
import { useResource } from '../resource.ts'
import { stackedBars } from './timeline.ts'

const refreshMs = 2_000
const heightPx = 64

const windows = [
  { value: '60', name: '1 min', barSeconds: 1 },
  { value: '300', name: '5 min', barSeconds: 3 },
  { value: '900', name: '15 min', barSeconds: 9 },
] as const
type WindowSeconds = (typeof windows)[number]['value']

const looks: Readonly<Record<SchemaDevice['state'], readonly [string, Tone]>> = {
  starting: ['Starting', 'accent'],
  ready: ['Ready', 'good'],
  restarting: ['Restarting', 'warn'],
  gone: ['Gone', 'none'],
}

export function Devices(): JSX.Element {
  const seconds = useSignal<WindowSeconds>('300')
  const devices = useResource(
    (client, signal) => client.devices.list({ seconds: Number(seconds.value) }, { signal }),
    () => refreshMs,
  )
  return (
    <>
      <ViewHead
        title="Devices"
        about="What each did in the last minutes. Requests go first; training has what they leave."
      />
      <div class="timeline-head">
        <Segments
          label="Window"
          options={windows}
          value={seconds.value}
          onChange={(next) => (seconds.value = next)}
        />
        <ul class="legend" aria-label="Colours">
          <li data-kind="serving">Serving</li>
          <li data-kind="training">Training</li>
        </ul>
      </div>
      <Loaded of={devices}>
        {({ data }) =>
          data.length === 0 ? (
            <p class="quiet">No device is there: start a worker with npx atelier worker.</p>
          ) : (
            data.map((device) => <Row key={device.name} device={device} />)
          )
        }
      </Loaded>
    </>
  )
}

function Row({ device }: { readonly device: SchemaDevice }): JSX.Element {
  const { name, state, requests, backlog_seconds: backlog, serving, training } = device
  const [word, tone] = looks[state]
  const barSeconds = windows.find(({ value }) => Number(value) >= serving.length)?.barSeconds ?? 9
  const bars = stackedBars({ serving, training, barSeconds })
  const [served, trained] = [mean(serving), mean(training)]
  const inWords = `serving ${percent(served)}, training ${percent(trained)}, idle ${percent(Math.max(0, 1 - served - trained))}`
  return (
    <Panel title={name} aside={<Chip tone={tone}>{word}</Chip>}>
      <svg
        class="timeline"
        // An img has no paths in it.
        // oxlint-disable-next-line prefer-tag-over-role
        role="img"
        aria-label={`${name} in the last ${duration(serving.length)}: ${inWords}`}
        viewBox={`0 0 ${bars.width} 1`}
        preserveAspectRatio="none"
        height={heightPx}
      >
        <path class="timeline__serving" d={bars.serving} />
        <path class="timeline__training" d={bars.training} />
      </svg>
      <div class="timeline__ends" aria-hidden="true">
        <span>{duration(serving.length)} ago</span>
        <span>now</span>
      </div>
      <p class="quiet">
        {inWords.charAt(0).toUpperCase()}
        {inWords.slice(1)} ·{' '}
        {requests === 0 ? 'no requests wait' : `${plural(requests, 'request')}, ${duration(backlog)} of work`}
      </p>
    </Panel>
  )
}

const mean = (shares: readonly number[]): number =>
  shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length)
