/** What happened to a job, newest first. */
import type { JSX } from 'preact'
import type { SchemaFineTuningEvent } from '../../../sdk/index.ts'
import { at } from '../format.ts'

const time = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' })

export function EventLog({ events }: { readonly events: readonly SchemaFineTuningEvent[] }): JSX.Element {
  if (events.length === 0) return <p class="quiet">Nothing has happened yet.</p>
  return (
    // What scrolls must be reachable by the keyboard.
    // oxlint-disable-next-line no-noninteractive-tabindex
    <ol class="log" tabIndex={0} aria-label="Events, newest first">
      {events.map(({ id, created_at, level, message }) => (
        <li key={id} class="log__one" data-level={level}>
          <time dateTime={new Date(created_at * 1000).toISOString()} title={at(created_at * 1000)}>
            {time.format(created_at * 1000)}
          </time>
          <span>{message}</span>
        </li>
      ))}
    </ol>
  )
}
