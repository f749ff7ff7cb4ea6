/** Text embeddings that are kept for the prompts to come: most requests repeat the empty negative prompt at least. */
import { ByteLru } from '../byte-lru.ts'
import type { TextConditions } from './denoising.ts'

/** Bounded in bytes, keys included. */
export class PromptCache {
  readonly #kept: ByteLru<string, TextConditions>
  readonly #pinned = new Map<string, TextConditions>()
  #hits = 0

  constructor(maxBytes: number) {
    this.#kept = new ByteLru(
      maxBytes,
      (key, { hidden, mask }) => hidden.byteLength + mask.byteLength + 2 * key.length,
    )
  }

  get bytes(): number {
    return this.#kept.bytes
  }

  /** How often a wanted embedding was there. */
  get hits(): number {
    return this.#hits
  }

  /** Without counting as a use. */
  has(ids: Int32Array): boolean {
    const key = keyOf(ids)
    return this.#pinned.has(key) || this.#kept.has(key)
  }

  get(ids: Int32Array): TextConditions | undefined {
    const key = keyOf(ids)
    const conditions = this.#pinned.get(key) ?? this.#kept.get(key)
    if (conditions) this.#hits += 1
    return conditions
  }

  /** Kept for good, and not counted against the bound. */
  pin(ids: Int32Array, conditions: TextConditions): void {
    this.#pinned.set(keyOf(ids), conditions)
  }

  set(ids: Int32Array, conditions: TextConditions): void {
    this.#kept.set(keyOf(ids), conditions)
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
