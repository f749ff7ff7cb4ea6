/** Text embeddings that are kept for the prompts to come: most requests repeat the empty negative prompt at least. */
import type { TextConditions } from './denoising.ts'

/** Bounded in bytes; the least recently used embedding leaves first. */
export class PromptCache {
  readonly #maxBytes: number
  readonly #entries = new Map<string, TextConditions>() // least recently used first
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get(ids: Int32Array): TextConditions | undefined {
    const key = keyOf(ids)
    const entry = this.#entries.get(key)
    if (!entry) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry
  }

  /** An embedding that is larger than the whole bound is not kept. */
  set(ids: Int32Array, entry: TextConditions): void {
    const key = keyOf(ids)
    const known = this.#entries.get(key)
    if (known) this.#remove(key, known)
    if (sizeBytes(entry) > this.#maxBytes) return
    this.#entries.set(key, entry)
    this.#bytes += sizeBytes(entry)
    for (const [oldest, evicted] of this.#entries) {
      if (this.#bytes <= this.#maxBytes) break
      this.#remove(oldest, evicted)
    }
  }

  get bytes(): number {
    return this.#bytes
  }

  #remove(key: string, entry: TextConditions): void {
    this.#entries.delete(key)
    this.#bytes -= sizeBytes(entry)
  }
}

/** Token ids decide the embedding: prompts that differ in spelling alone share one. */
const keyOf = (ids: Int32Array): string => ids.join(' ')

const sizeBytes = ({ hidden, mask }: TextConditions): number => hidden.byteLength + mask.byteLength
