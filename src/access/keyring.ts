/**
 * Tells who a key belongs to, mostly from memory. What is known of a key, also that there is none, is kept for five seconds;
 * a key that is made or revoked is announced, and everything kept is forgotten. So a revocation works at once, and within
 * five seconds where the announcement is lost.
 */
import { LRUCache } from 'lru-cache'
import type { Logger } from 'pino'
import type { Database } from '../storage/database.ts'
import { faultOf, hashOf } from './key-text.ts'
import { keyChannel, type ApiKey, type Keys } from './keys.ts'

export type KeyFault = 'malformed' | 'mistyped' | 'unknown' | 'expired' | 'revoked'

export type Verdict =
  { readonly kind: 'valid'; readonly key: ApiKey } | { readonly kind: 'invalid'; readonly fault: KeyFault }

export interface Keyring {
  /** Whether there is a key or ever was: then nothing is done without one. */
  hasKeys(): Promise<boolean>
  judge(text: string): Promise<Verdict>
  /** Whether this process has found the key valid before, however long ago. Asks nobody. */
  hasSeen(text: string): boolean
  close(): Promise<void>
}

const keptMs = 5_000
const mostKept = 10_000
const touchedMs = 60_000

export async function openKeyring(
  database: Pick<Database, 'listen'>,
  keys: Keys,
  log: Pick<Logger, 'warn'>,
): Promise<Keyring> {
  /** By hash. Promises, so that those who ask at once ask once. */
  const known = new LRUCache<string, Promise<ApiKey | undefined>>({ max: mostKept, ttl: keptMs })
  const seen = new LRUCache<string, true>({ max: mostKept })
  const touched = new LRUCache<string, true>({ max: mostKept, ttl: touchedMs })
  let kept: { readonly any: Promise<boolean>; atMs: number } | undefined
  const forget = () => {
    known.clear()
    kept = undefined
  }
  const stopListening = await database.listen(keyChannel, forget)

  function find(sha256: string): Promise<ApiKey | undefined> {
    const found = known.get(sha256)
    if (found) return found
    const finding = keys.findByHash(sha256)
    known.set(sha256, finding)
    finding.catch(() => {
      if (known.peek(sha256) === finding) known.delete(sha256)
    })
    return finding
  }

  function look(): typeof kept & object {
    const looking = { any: keys.any(), atMs: performance.now() }
    void settle(looking)
    return looking
  }

  async function settle(looking: typeof kept & object): Promise<void> {
    try {
      // What had keys once has them for ever.
      if (await looking.any) looking.atMs = Infinity
    } catch {
      if (kept === looking) kept = undefined // whoever asked is told
    }
  }

  /** Nobody waits for it. */
  function touch(id: string): void {
    if (touched.has(id)) return
    touched.set(id, true)
    keys
      .touch(id)
      .catch((error: unknown) => log.warn({ err: error, keyId: id }, 'cannot note the use of a key'))
  }

  return {
    hasKeys() {
      if (!kept || performance.now() - kept.atMs > keptMs) kept = look()
      return kept.any
    },
    async judge(text) {
      const sha256 = hashOf(text)
      const fault = known.has(sha256) ? undefined : faultOf(text)
      if (fault) return { kind: 'invalid', fault }
      const key = await find(sha256)
      if (!key) return { kind: 'invalid', fault: 'unknown' }
      if (key.revokedAt) return { kind: 'invalid', fault: 'revoked' }
      if (key.expiresAt && key.expiresAt.getTime() <= Date.now()) return { kind: 'invalid', fault: 'expired' }
      seen.set(sha256, true)
      touch(key.id)
      return { kind: 'valid', key }
    },
    hasSeen: (text) => seen.has(hashOf(text)),
    close: () => stopListening(),
  }
}
