/** Values that take a while to come by, kept in memory while there is room, and begun ahead of their use. */
import { ByteLru } from '../../byte-lru.ts'

export class KeptLoads<Key, Value> {
  readonly #kept: ByteLru<Key, Value>
  readonly #begun = new Map<Key, Promise<Value | undefined>>()
  readonly #load: (key: Key) => Promise<Value | undefined>

  /** @param load gives undefined when there is nothing to be loaded */
  constructor(
    maxBytes: number,
    sizeOf: (value: Value) => number,
    load: (key: Key) => Promise<Value | undefined>,
  ) {
    this.#kept = new ByteLru(maxBytes, (_key, value) => sizeOf(value))
    this.#load = load
  }

  /** Loads once, however many ask meanwhile. What failed is tried again by the next who asks. */
  async get(key: Key): Promise<Value | undefined> {
    const kept = this.#kept.get(key)
    if (kept !== undefined) return kept
    try {
      return await (this.#begun.get(key) ?? this.#begin(key))
    } finally {
      this.#begun.delete(key)
    }
  }

  set(key: Key, value: Value): void {
    this.#kept.set(key, value)
  }

  /** Begins to load what will be asked for soon. What goes wrong is told to who asks. */
  ahead(key: Key): void {
    if (this.#kept.has(key) || this.#begun.has(key)) return
    this.#begin(key).then(
      () => this.#begun.delete(key),
      () => undefined,
    )
  }

  #begin(key: Key): Promise<Value | undefined> {
    const loading = this.#load(key).then((value) => {
      if (value !== undefined) this.#kept.set(key, value)
      return value
    })
    this.#begun.set(key, loading)
    return loading
  }
}
