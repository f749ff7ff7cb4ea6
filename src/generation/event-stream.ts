/**
 * One generation's events as they come: what the table has, then what is added to it.
 *
 * A notification only says that it is worth looking again. What was told is known by its number, so nothing is told twice,
 * and numbers have no gaps and become visible in order, so nothing is left out, whichever process looks and whenever.
 */
import type { Project } from '../access/project.ts'
import type { Announcements } from '../storage/announcements.ts'
import { throughOutages } from '../storage/outage.ts'
import { GenerationError } from './errors.ts'
import { eventsAtOnce, finalEventOf, type EventLog } from './event-log.ts'
import { isFinal, type GenerationEvent } from './events.ts'
import { isSettled } from './generation.ts'
import type { GenerationReader } from './reader.ts'

export interface StreamOptions {
  readonly project: Project
  readonly reader: GenerationReader
  readonly eventLog: EventLog
  readonly announcements: Announcements
}

/** @throws {GenerationError} `not_found`; the signal's reason */
export async function* streamEvents(
  id: string,
  { afterEventId = 0, signal }: { afterEventId?: number | undefined; signal?: AbortSignal | undefined },
  { project, reader, eventLog, announcements }: StreamOptions,
): AsyncGenerator<GenerationEvent, void, undefined> {
  const subscription = announcements.subscribe(id)
  const after = (sequence: number) => throughOutages(() => eventLog.after(id, sequence), signal)
  const look = () => throughOutages(() => reader.withEventCount(project, id), signal)
  try {
    const found = await reader.withEventCount(project, id)
    if (!found) throw new GenerationError('not_found', `there is no generation ${id}`)
    let told = Math.min(afterEventId, found.eventCount)
    for (;;) {
      signal?.throwIfAborted()
      const announced = subscription.next(signal)
      let events = await after(told)
      if (events.length === 0) {
        const now = await look()
        if (!now) return // deleted
        if (isSettled(now.generation)) {
          if (now.eventCount <= told) return
          // Either they came between the two looks, or they are gone and only the row still tells the end.
          events = await after(told)
          if (events.length === 0) events = [finalEventOf(now.generation, now.eventCount)]
        }
      }
      for (const event of events) {
        yield event
        told = event.id
        if (isFinal(event)) return
      }
      if (events.length < eventsAtOnce) await announced
    }
  } finally {
    subscription.stop()
  }
}
