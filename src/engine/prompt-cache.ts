/** Text embeddings that are kept for the prompts to come: most requests repeat the empty negative prompt at least. */
import type { TextConditions } from './denoising.ts'

interface Entry {
  readonly conditions: TextConditions
  readonly sizeBytes: number
}

/** Bounded in bytes, keys included; the least recently used embedding leaves first. */
export class PromptCache {
  readonly #maxBytes: number
  readonly #entries = new Map<string, Entry>() // least recently used first
  readonly #pinned = new Map<string, TextConditions>()
  #bytes = 0
  #hits = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  /** How often a wanted embedding was there. */
  get hits(): number {
    return this.#hits
  }

  /** Without counting as a use. */
  has(ids: Int32Array): boolean {
    const key = keyOf(ids)
    return this.#pinned.has(key) || this.#entries.has(key)
  }

  get(ids: Int32Array): TextConditions | undefined {
    const key = keyOf(ids)
    const pinned = this.#pinned.get(key)
    const entry = this.#entries.get(key)
    if (pinned || entry) this.#hits += 1
    if (pinned || !entry) return pinned
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry.conditions
  }

  /** Kept for good, and not counted against the bound. */
  pin(ids: Int32Array, conditions: TextConditions): void {
    this.#pinned.set(keyOf(ids), conditions)
  }

  /** An embedding that is larger than the whole bound is not kept. */
  set(ids: Int32Array, conditions: TextConditions): void {
    const key = keyOf(ids)
    this.#remove(key)
    const sizeBytes = conditions.hidden.byteLength + conditions.mask.byteLength + 2 * key.length
    if (sizeBytes > this.#maxBytes) return
    this.#entries.set(key, { conditions, sizeBytes })
    this.#bytes += sizeBytes
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) break
      this.#remove(oldest)
    }
  }

  #remove(key: string): void {
    this.#bytes -= this.#entries.get(key)?.sizeBytes ?? 0
    this.#entries.delete(key)
  }
}

/** Of ids that are still in use: the policy asks for them again before every unit of work. */
const keys = new WeakMap<Int32Array, string>()

/** Token ids decide the embedding: prompts that differ in spelling alone share one. */
export function keyOf(ids: Int32Array): string {
  const key = keys.get(ids) ?? ids.join(' ')
  keys.set(ids, key)
  return key
}
