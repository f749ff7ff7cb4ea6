/** Sessions that the models of one device have in common: those that were made of one another have the same text encoder. */
import type { Session } from './session.ts'

interface Entry {
  readonly sessions: Promise<readonly Session[]>
  users: number
}

export class SharedSessions {
  readonly #entries = new Map<string, Entry>()

  /**
   * @param key of the same graphs over the same weights
   * @param open makes them when nobody has them; what it throws is thrown to all who wait for it
   */
  async acquire(key: string, open: () => Promise<readonly Session[]>): Promise<readonly Session[]> {
    const entry = this.#entries.get(key) ?? { sessions: open(), users: 0 }
    this.#entries.set(key, entry)
    entry.users += 1
    try {
      return await entry.sessions
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key)
      throw error
    }
  }

  /** To be called once for each time they were acquired; the last one closes them. */
  async release(key: string): Promise<void> {
    const entry = this.#entries.get(key)
    if (!entry) return
    entry.users -= 1
    if (entry.users > 0) return
    this.#entries.delete(key)
    for (const session of await entry.sessions) await session.close()
  }
}
