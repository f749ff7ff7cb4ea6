/** What is kept while there is room for it: bounded in bytes, and the least recently used entry leaves first. */
export class ByteLru<Key, Value> {
  readonly #maxBytes: number
  readonly #sizeOf: (key: Key, value: Value) => number
  readonly #entries = new Map<Key, Value>() // least recently used first
  #bytes = 0

  constructor(maxBytes: number, sizeOf: (key: Key, value: Value) => number) {
    this.#maxBytes = maxBytes
    this.#sizeOf = sizeOf
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Without counting as a use. */
  has(key: Key): boolean {
    return this.#entries.has(key)
  }

  get(key: Key): Value | undefined {
    const value = this.#entries.get(key)
    if (value === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  /** What is larger than the whole bound is not kept. */
  set(key: Key, value: Value): void {
    this.#remove(key)
    const sizeBytes = this.#sizeOf(key, value)
    if (sizeBytes > this.#maxBytes) return
    this.#entries.set(key, value)
    this.#bytes += sizeBytes
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) break
      this.#remove(oldest)
    }
  }

  #remove(key: Key): void {
    const value = this.#entries.get(key)
    if (value === undefined) return
    this.#bytes -= this.#sizeOf(key, value)
    this.#entries.delete(key)
  }
}
