/**
 * Captions as the text encoder sees them, encoded once for all jobs: the real tokens only, since the transformer sees nothing of
 * the padding. They stay float32, so that a job does not depend on what was cached before it.
 */
import { join } from 'node:path'
import { ByteLru } from '../../byte-lru.ts'
import { maxPromptTokens } from '../../models/components.ts'
import type { Tokenizer } from '../../text/tokenizer.ts'
import type { Tensor } from '../host.ts'
import { ArrayCache, type CacheKey } from './array-cache.ts'
import { requireFinite } from './errors.ts'
import { KeptLoads } from './kept-loads.ts'

export interface EncodedText {
  readonly ids: Int32Array // (T)
  readonly hidden: Float32Array // (T, D)
}

/** ids int32 and mask float32, (1, T) each, nothing of them padding → hidden (1, T, D). */
export type EncodeText = (ids: Tensor, mask: Tensor) => Promise<Float32Array>

export interface TextCacheOptions {
  readonly folder: string
  /** Fingerprint of the text encoder's weights. */
  readonly version: string
  readonly tokenizer: Tokenizer
  readonly encode: EncodeText
  /** D */
  readonly width: number
  readonly memoryBytes: number
}

/** What may be kept of the tokens of captions. */
const tokenBytes = 2 ** 24

export class TextCache {
  readonly #options: TextCacheOptions
  readonly #files: ArrayCache
  readonly #kept: KeptLoads<string, EncodedText>
  readonly #tokens = new ByteLru<string, Int32Array<ArrayBuffer>>(
    tokenBytes,
    (text, ids) => 2 * text.length + ids.byteLength,
  )

  constructor(options: TextCacheOptions) {
    this.#options = options
    this.#files = new ArrayCache(join(options.folder, 'text-embeddings'))
    this.#kept = new KeptLoads(
      options.memoryBytes,
      ({ ids, hidden }) => ids.byteLength + hidden.byteLength,
      async (text) => {
        const ids = this.tokens(text)
        const cached = await this.#files.read(this.#keyOf(ids))
        return cached && { ids, hidden: cached.data }
      },
    )
  }

  has(text: string): Promise<boolean> {
    const ids = this.tokens(text)
    return this.#files.has(this.#keyOf(ids), this.#dimsOf(ids))
  }

  /** Encodes what is not there. */
  async get(text: string): Promise<EncodedText> {
    return (await this.#kept.get(text)) ?? this.#encode(text)
  }

  /** Reads what is there in the meantime. */
  ahead(text: string): void {
    this.#kept.ahead(text)
  }

  /** @returns the text's tokens without padding (T) */
  tokens(text: string): Int32Array<ArrayBuffer> {
    const known = this.#tokens.get(text)
    if (known) return known
    const { ids, length } = this.#options.tokenizer.encode(text, maxPromptTokens)
    const tokens = ids.slice(0, length)
    this.#tokens.set(text, tokens)
    return tokens
  }

  async #encode(text: string): Promise<EncodedText> {
    const ids = this.tokens(text)
    const dims = [1, ids.length]
    const hidden = await this.#options.encode(
      { dtype: 'int32', data: ids, dims },
      { dtype: 'float32', data: new Float32Array(ids.length).fill(1), dims },
    )
    requireFinite(hidden, `caption ${JSON.stringify(text)}, embedding`)
    const encoded = { ids, hidden: hidden.slice() }
    await this.#files.write(this.#keyOf(ids), { dims: this.#dimsOf(ids), data: encoded.hidden })
    this.#kept.set(text, encoded)
    return encoded
  }

  #keyOf(ids: Int32Array): CacheKey {
    return [...ids, this.#options.version]
  }

  #dimsOf(ids: Int32Array): readonly number[] {
    return [ids.length, this.#options.width]
  }
}
