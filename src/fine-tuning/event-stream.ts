/**
 * One job's events as they come: what the table has, then what is added to it. A notification only says that it is worth
 * looking again; what was told is known by its number, so nothing is told twice and nothing is left out.
 */
import type { Project } from '../access/project.ts'
import type { Announcements } from '../storage/announcements.ts'
import { FineTuningError } from './errors.ts'
import { isFinalEvent, type FineTuningEvent } from './events.ts'
import { eventsAtOnce, type FineTuningReader } from './reader.ts'

export interface StreamOptions {
  /** The last event that is known already. */
  readonly after?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Ends after the final event. @throws {FineTuningError} `job_not_found`; the signal's reason */
export async function* streamEvents(
  id: string,
  { after = 0, signal }: StreamOptions,
  {
    project,
    reader,
    announcements,
  }: {
    readonly project: Project
    readonly reader: FineTuningReader
    readonly announcements: Announcements
  },
): AsyncGenerator<FineTuningEvent, void, undefined> {
  const subscription = announcements.subscribe(id)
  try {
    const found = await reader.withEventCount(project, id)
    if (!found) throw new FineTuningError('job_not_found', `there is no job ${id}`)
    let told = Math.min(after, found.eventCount)
    for (;;) {
      signal?.throwIfAborted()
      const announced = subscription.next(signal)
      const events = await reader.eventsAfter(id, told)
      for (const event of events) {
        yield event
        told = event.sequence
        if (isFinalEvent(event)) return
      }
      if (events.length === 0) {
        const now = await reader.withEventCount(project, id)
        if (!now) return // deleted
        if (now.job.finishedAt !== undefined && now.eventCount <= told) return
      }
      if (events.length < eventsAtOnce) await announced
    }
  } finally {
    subscription.stop()
  }
}
