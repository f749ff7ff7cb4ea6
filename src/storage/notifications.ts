/**
 * LISTEN on a connection of its own, which is made anew whenever it breaks. What was told meanwhile is lost; so after that
 * everybody who listens is told to look for itself.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, Notification } from 'pg'

interface Listener {
  readonly onPayload: (payload: string) => void
  readonly onMissed: () => void
}

/** A broken line is noticed by a question that is not answered. */
const askEveryMs = 5_000
/** Whoever opens the connection holds it to this: one that is made and then cut off answers to nothing. */
export const answerWithinMs = 5_000
const [firstRetryMs, longestRetryMs] = [100, 2_000]

export class Notifications {
  readonly #connect: () => Client
  readonly #onError: (error: Error) => void
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #closing = new AbortController()
  #client: Client | undefined
  #opening: Client | undefined
  #reconnecting: Promise<void> | undefined
  #last: Promise<unknown> = Promise.resolve()
  readonly #asking: NodeJS.Timeout

  private constructor(connect: () => Client, onError: (error: Error) => void) {
    this.#connect = connect
    this.#onError = onError
    this.#asking = setInterval(() => void this.#ask(), askEveryMs)
    this.#asking.unref()
  }

  static async open(connect: () => Client, onError: (error: Error) => void): Promise<Notifications> {
    const notifications = new Notifications(connect, onError)
    await notifications.#open()
    return notifications
  }

  /** Resolves when nothing that is told from now on is missed. `onMissed` is called when something may have been. */
  async listen(
    channel: string,
    onPayload: (payload: string) => void,
    onMissed: () => void = () => undefined,
  ): Promise<() => Promise<void>> {
    const listener = { onPayload, onMissed }
    const listeners = this.#listeners.get(channel) ?? new Set()
    this.#listeners.set(channel, listeners.add(listener))
    await this.#say(`LISTEN ${quoted(channel)}`)
    return async () => {
      listeners.delete(listener)
      if (listeners.size > 0 || this.#listeners.get(channel) !== listeners) return
      this.#listeners.delete(channel)
      await this.#say(`UNLISTEN ${quoted(channel)}`)
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    clearInterval(this.#asking)
    await this.#reconnecting
    await this.#client?.end()
  }

  async #open(): Promise<void> {
    const client = this.#connect()
    client.on('error', (error) => this.#lost(client, error))
    client.on('end', () => this.#lost(client, new Error('the database server hung up')))
    client.on('notification', (told) => this.#hear(told))
    try {
      await client.connect()
      // Whoever comes from here on listens on it; who came before is in the list.
      this.#opening = client
      const channels = [...this.#listeners.keys()].map((channel) => `LISTEN ${quoted(channel)}`)
      await client.query(['SELECT 1', ...channels].join('; '))
      this.#client = client
    } catch (error) {
      client.end().catch(() => undefined)
      throw error
    } finally {
      this.#opening = undefined
    }
  }

  /** One thing after the other. What fails is made up for by the next connection. */
  #say(statement: string): Promise<unknown> {
    const client = this.#client ?? this.#opening
    this.#last = this.#last.then(() => client?.query(statement)).catch(() => undefined)
    return this.#last
  }

  #hear({ channel, payload = '' }: Notification): void {
    for (const { onPayload } of this.#listeners.get(channel) ?? []) onPayload(payload)
  }

  #lost(client: Client, error: Error): void {
    if (client !== this.#client) return
    this.#client = undefined
    client.end().catch(() => undefined)
    if (this.#closing.signal.aborted) return
    this.#onError(error)
    this.#reconnecting = this.#reconnect()
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#closing
    for (let waitMs = firstRetryMs; !signal.aborted; waitMs = Math.min(2 * waitMs, longestRetryMs)) {
      await sleep(waitMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
      try {
        await this.#open()
        for (const listeners of this.#listeners.values()) for (const { onMissed } of listeners) onMissed()
        return
      } catch {
        // The one error that began it was told; the server is still away.
      }
    }
  }

  async #ask(): Promise<void> {
    const client = this.#client
    if (!client) return
    const late = setTimeout(
      () => this.#lost(client, new Error('the database server does not answer')),
      answerWithinMs,
    )
    await this.#say('SELECT 1')
    clearTimeout(late)
  }
}

const quoted = (channel: string): string => `"${channel.replaceAll('"', '""')}"`
