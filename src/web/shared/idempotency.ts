/** Idempotency keys: what is asked for again while nobody knows what became of it has the same, and is done once. */
import { AtelierError } from '../../sdk/index.ts'

export interface Asking {
  /** @param what tells this wish from another @param ask may be given the key of the last time */
  readonly once: <T>(what: string, ask: (idempotencyKey: string) => Promise<T>) => Promise<T>
}

export function createAsking(): Asking {
  let unanswered: { readonly what: string; readonly key: string } | undefined
  return {
    async once(what, ask) {
      const key = unanswered?.what === what ? unanswered.key : drawKey()
      unanswered = { what, key }
      try {
        const answer = await ask(key)
        unanswered = undefined
        return answer
      } catch (error) {
        if (!isUnknown(error)) unanswered = undefined
        throw error
      }
    },
  }
}

/** Nobody answered, or somebody on the way who does not know: a proxy. */
const isUnknown = (error: unknown): boolean =>
  error instanceof AtelierError && [undefined, 502, 504].includes(error.status)

/** `crypto.randomUUID` is there on secure origins alone, and a service in a local network has none. */
const drawKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join(
    '',
  )
