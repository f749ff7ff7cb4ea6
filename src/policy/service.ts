/** What may be asked for and shown: judged before a generation is accepted, and before its pictures are kept. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { readBlockList, type BlockList } from './block-list.ts'
import { PolicyError } from './errors.ts'
import { openModeration, type Moderation, type ModerationOptions } from './moderation.ts'

export const hooks = ['before', 'after'] as const
export type Hook = (typeof hooks)[number]
export const outcomes = ['allowed', 'refused', 'unjudged'] as const
/** `unjudged`: whoever was to judge did not answer. */
export type PolicyOutcome = (typeof outcomes)[number]

export interface ContentPolicy {
  /** Whether pictures are judged at all. */
  readonly judgesPictures: boolean
  /**
   * @param texts by the names of the request's fields
   * @throws {PolicyError} that names the first field at fault
   */
  checkTexts(texts: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<void>
  /** @param bytes of a picture file @throws {PolicyError} */
  checkPicture(bytes: Uint8Array, contentType: string, signal?: AbortSignal): Promise<void>
  /** How often each hook came to which end, since this process started. */
  readonly totals: Readonly<Record<Hook, Readonly<Record<PolicyOutcome, number>>>>
}

export interface PolicyOptions {
  /** Empty: none. */
  readonly blockListFile: string
  /** Undefined: nobody is asked. */
  readonly moderation: (ModerationOptions & { readonly ofPictures: boolean }) | undefined
  /** Of what nobody judged, because the endpoint did not answer. */
  readonly onFailure: 'refuse' | 'allow'
  readonly log: Pick<Logger, 'warn'>
  /** Before a picture, which took a device's time, is judged again. */
  readonly retryMs?: number
}

const pictureAttempts = 3
const defaultRetryMs = 1_000

/** @throws {Error} one line, when the block list cannot be read */
export async function openContentPolicy(options: PolicyOptions): Promise<ContentPolicy> {
  const { blockListFile, moderation: asked, onFailure, log, retryMs = defaultRetryMs } = options
  const blockList = blockListFile === '' ? undefined : await readBlockList(blockListFile)
  const moderation = asked && openModeration(asked)
  const totals = { before: none(), after: none() }

  /** Counts how a check ended; of what nobody judged it says whether it passes. */
  async function counted(hook: Hook, check: () => Promise<void>): Promise<void> {
    try {
      await check()
      totals[hook].allowed += 1
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      totals[hook][error.code === 'content_policy_violation' ? 'refused' : 'unjudged'] += 1
      if (error.code === 'content_policy_violation' || onFailure === 'refuse') throw error
      log.warn({ err: error.cause, hook }, 'moderation does not answer; what it was to judge passes')
    }
  }

  return {
    judgesPictures: asked?.ofPictures === true,
    totals,
    async checkTexts(texts, signal) {
      const told = Object.entries(texts).filter(([, text]) => text.trim() !== '')
      if ((!blockList && !moderation) || told.length === 0) return
      await counted('before', async () => {
        for (const [name, text] of told) if (isBlocked(blockList, text)) throw violation(name)
        if (moderation) await askOfTexts(moderation, told, signal)
      })
    },
    async checkPicture(bytes, contentType, signal) {
      if (!moderation || !asked?.ofPictures) return
      await counted('after', async () => {
        const flagged = await persistently(
          () => moderation.picture(bytes, contentType, signal),
          retryMs,
          signal,
        )
        if (flagged)
          throw new PolicyError(
            'content_policy_violation',
            'The picture is not one that the content policy allows.',
          )
      })
    },
  }
}

const none = (): Record<PolicyOutcome, number> => ({ allowed: 0, refused: 0, unjudged: 0 })

const isBlocked = (blockList: BlockList | undefined, text: string): boolean =>
  blockList?.find(text) !== undefined

/** Which word it was stays untold: a client that learns it writes around it. */
const violation = (parameter: string): PolicyError =>
  new PolicyError(
    'content_policy_violation',
    `${parameter}: expected a text that the content policy allows`,
    {
      parameter,
    },
  )

async function askOfTexts(
  moderation: Moderation,
  told: readonly (readonly [name: string, text: string])[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const flags = await moderation
    .texts(
      told.map(([, text]) => text),
      signal,
    )
    .catch((error: unknown) => {
      throw unjudged(error, signal)
    })
  const first = told[flags.indexOf(true)]
  if (first) throw violation(first[0])
}

async function persistently<T>(
  work: () => Promise<T>,
  retryMs: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt === pictureAttempts || signal?.aborted) throw unjudged(error, signal)
      await sleep(retryMs, undefined, signal && { signal })
    }
  }
}

/** Whoever gave up does not mean that there is no answer. */
function unjudged(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason
  const message = 'Whoever judges what is asked for does not answer at the moment'
  return new PolicyError('moderation_unavailable', message, { cause: error })
}

/** Judges nothing. */
export const noPolicy: ContentPolicy = {
  judgesPictures: false,
  totals: { before: none(), after: none() },
  checkTexts: async () => undefined,
  checkPicture: async () => undefined,
}
