/** How a generation stands between its acceptance and its end, as its events tell it. */
import type { SchemaGenerationEvent } from '../../sdk/index.ts'

export interface LivePicture {
  readonly step: number
  readonly steps: number
  readonly previewUrl: string | undefined
}

export interface Live {
  readonly hasStarted: boolean
  /** How many go before it. */
  readonly queuePosition: number | undefined
  /** Milliseconds since 1970 at which its end is expected. */
  readonly endsAt: number | undefined
  readonly pictures: readonly LivePicture[]
  readonly lastEventId: number | undefined
  /** Lost while nothing is heard of it; it goes on all the same. */
  readonly connection: 'good' | 'lost'
}

export const unheard: Live = {
  hasStarted: false,
  queuePosition: undefined,
  endsAt: undefined,
  pictures: [],
  lastEventId: undefined,
  connection: 'good',
}

/** Of steps and previews; what its end brings is the generation itself. */
export function hear(live: Live, event: SchemaGenerationEvent): Live {
  const heard: Live = { ...live, lastEventId: event.id, connection: 'good' }
  switch (event.type) {
    case 'queued':
      // Also after a restart of the service, which begins it anew.
      return { ...unheard, lastEventId: event.id, queuePosition: event.queue_position }
    case 'started':
      return { ...heard, hasStarted: true, queuePosition: undefined }
    case 'step': {
      const { image, step, steps, eta_seconds, at } = event
      const endsAt = Date.parse(at) + eta_seconds * 1000
      return {
        ...heard,
        hasStarted: true,
        endsAt,
        pictures: withPicture(live.pictures, image, { step, steps }),
      }
    }
    case 'preview': {
      const { image, step, steps, url: previewUrl } = event
      return {
        ...heard,
        hasStarted: true,
        pictures: withPicture(live.pictures, image, { step, steps, previewUrl }),
      }
    }
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return heard
  }
}

function withPicture(
  pictures: readonly LivePicture[],
  index: number,
  changes: Pick<LivePicture, 'step' | 'steps'> & Partial<LivePicture>,
): LivePicture[] {
  const none = { previewUrl: undefined }
  const length = Math.max(pictures.length, index + 1)
  return Array.from({ length }, (_, i) => {
    const before = pictures[i] ?? { step: 0, steps: changes.steps, ...none }
    return i === index ? { ...before, ...changes, step: Math.max(before.step, changes.step) } : before
  })
}

/** From 0 to 1, over all pictures. */
export function progressOf({ pictures }: Live, count: number): number {
  const done = pictures.reduce((sum, { step, steps }) => sum + step / steps, 0)
  return Math.min(1, done / count)
}
