/** Judgements of a server that speaks as OpenAI's `/v1/moderations` does. */
import { parseAllowed } from '../outbound/addresses.ts'
import { post, type OutboundOptions } from '../outbound/post.ts'

export interface ModerationOptions {
  readonly url: string
  /** Sent as a bearer token; empty sends none. */
  readonly key: string
  readonly model: string
  readonly timeoutMs: number
}

export type ModerationInput =
  readonly string[] | readonly [{ readonly type: 'image_url'; readonly image_url: { readonly url: string } }]

export interface Moderation {
  /** @returns whether each text is flagged. @throws when there is no judgement */
  texts(texts: readonly string[], signal?: AbortSignal): Promise<readonly boolean[]>
  /** @param bytes of a picture file @returns whether it is flagged. @throws when there is no judgement */
  picture(bytes: Uint8Array, contentType: string, signal?: AbortSignal): Promise<boolean>
}

const maxResponseBytes = 256 * 1024

export function openModeration({ url, key, model, timeoutMs }: ModerationOptions): Moderation {
  // The operator named this host: it may be where clients may not send anything, such as on this machine.
  const host = parseAllowed((URL.parse(url)?.hostname ?? '').replace(/^\[(.*)\]$/, '$1'))
  const outbound: OutboundOptions = { allowed: host ? [host] : [], timeoutMs, maxResponseBytes }
  const headers = {
    'content-type': 'application/json',
    'user-agent': 'Atelier',
    ...(key !== '' && { authorization: `Bearer ${key}` }),
  }

  async function judge(
    input: ModerationInput,
    expected: number,
    signal: AbortSignal | undefined,
  ): Promise<readonly boolean[]> {
    const body = JSON.stringify({ model, input })
    const answer = await post(url, { headers, body, ...(signal && { signal }) }, outbound)
    if (answer.status !== 200) throw new Error(`expected status 200, got ${answer.status}`)
    const flags = flagsOf(answer.body)
    if (flags?.length !== expected)
      throw new Error(`expected ${expected} results that are flagged or not, got something else`)
    return flags
  }

  return {
    texts: (texts, signal) => judge(texts, texts.length, signal),
    async picture(bytes, contentType, signal) {
      const data = `data:${contentType};base64,${Buffer.from(bytes).toString('base64')}`
      const [flagged] = await judge([{ type: 'image_url', image_url: { url: data } }], 1, signal)
      return flagged === true
    },
  }
}

/** @returns undefined for what is no answer */
function flagsOf(body: string): readonly boolean[] | undefined {
  const { results } = parseObject(body)
  if (!Array.isArray(results)) return undefined
  const flags = results.map((result: unknown) => (result as { flagged?: unknown } | null)?.flagged)
  return flags.every((flag) => typeof flag === 'boolean') ? flags : undefined
}

function parseObject(text: string): { readonly results?: unknown } {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}
