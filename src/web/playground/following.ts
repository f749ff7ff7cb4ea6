/**
 * Follows generations that have not ended. Each has a stream of events, a few at a time, since a browser opens six connections to
 * a server and pictures need some too; those that wait for their turn are asked after now and then. A stream that breaks is taken
 * up again where it was, for as long as the page is open.
 */
import { signal, type Signal } from '@preact/signals'
import { AtelierError, type SchemaGeneration } from '../../sdk/index.ts'
import { atelier } from '../shared/session.ts'
import { hear, unheard, type Live } from './live.ts'

type Learn = (news: readonly SchemaGeneration[]) => void

const mostStreams = 3
const pollMs = 2_000
const reconnectMs = 1_500

const lives = new Map<string, Signal<Live>>()
const waiting: { readonly id: string; readonly learn: Learn }[] = []
const streaming = new Set<string>()
let leaving = new AbortController()

/** What is heard of one; it is there for whoever asks, also before anything was heard. */
export function liveOf(id: string): Signal<Live> {
  const live = lives.get(id) ?? signal(unheard)
  lives.set(id, live)
  return live
}

export function follow(id: string, learn: Learn): void {
  if (streaming.has(id) || waiting.some((each) => each.id === id)) return
  waiting.push({ id, learn })
  startNext()
}

/** Lets go of all, as when the visitor changes. */
export function forgetAll(): void {
  leaving.abort()
  leaving = new AbortController()
  lives.clear()
  waiting.length = 0
  streaming.clear()
}

function startNext(): void {
  while (streaming.size < mostStreams) {
    const next = waiting.shift()
    if (!next) return
    const { signal } = leaving
    streaming.add(next.id)
    void stream(next.id, next.learn, signal).finally(() => {
      if (signal.aborted) return
      streaming.delete(next.id)
      startNext()
    })
    void ask(next.id, next.learn, signal)
  }
  for (const { id, learn } of waiting) void ask(id, learn, leaving.signal)
}

async function stream(id: string, learn: Learn, signal: AbortSignal): Promise<void> {
  const live = liveOf(id)
  const client = atelier.peek()
  while (!signal.aborted) {
    try {
      const { lastEventId: afterEventId } = live.peek()
      for await (const event of client.generations.events(id, { signal, afterEventId })) {
        live.value = hear(live.peek(), event)
        if ('generation' in event) {
          learn([event.generation])
          lives.delete(id)
          return
        }
      }
      // All was heard before: the end is in the generation itself.
      learn([await client.generations.retrieve(id, { signal })])
      return
    } catch (error) {
      if (signal.aborted || isFinal(error)) return
      live.value = { ...live.peek(), connection: 'lost' }
      await pause(reconnectMs, signal)
    }
  }
}

/** The service will say the same again: it was deleted, or the key is no longer good. */
function isFinal(error: unknown): boolean {
  const { status } = error instanceof AtelierError ? error : {}
  return status !== undefined && status < 500 && status !== 429
}

const asking = new Set<string>()

/** Where it stands in the queue changes without an event. */
async function ask(id: string, learn: Learn, signal: AbortSignal): Promise<void> {
  if (asking.has(id)) return
  asking.add(id)
  const client = atelier.peek()
  try {
    while (!signal.aborted && (streaming.has(id) || waiting.some((each) => each.id === id))) {
      const live = liveOf(id)
      if (live.peek().hasStarted && streaming.has(id)) return
      try {
        const generation = await client.generations.retrieve(id, { signal })
        const { state, queue_position, eta_seconds } = generation
        if (state !== 'queued' && state !== 'running') {
          const at = waiting.findIndex((each) => each.id === id)
          if (at >= 0) waiting.splice(at, 1)
          if (!streaming.has(id)) learn([generation])
          return
        }
        live.value = {
          ...live.peek(),
          queuePosition: queue_position ?? undefined,
          endsAt: eta_seconds === null ? undefined : Date.now() + eta_seconds * 1000,
        }
      } catch (error) {
        if (signal.aborted || isFinal(error)) return
      }
      await pause(pollMs, signal)
    }
  } finally {
    asking.delete(id)
  }
}

function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, delayMs)
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        resolve()
      },
      { once: true },
    )
  })
}
