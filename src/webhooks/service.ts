/** Tells others of generations that have ended: takes deliveries that are due, sends them, and writes what came of it. */
import type { Logger } from 'pino'
import type { Caller } from '../access/caller.ts'
import type { Project } from '../access/project.ts'
import type { AllowedTarget } from '../outbound/addresses.ts'
import { OutboundError } from '../outbound/errors.ts'
import { checkTarget, post, type Resolver } from '../outbound/post.ts'
import type { Storage } from '../storage/storage.ts'
import type { Tracing } from '../tracing/tracing.ts'
import {
  claimDue,
  dueChannel,
  listDeliveries,
  originOf,
  replayDelivery,
  settleDelivery,
  type DeliveryFilters,
  type DeliveryOutcome,
  type DeliveryPage,
  type WebhookDelivery,
} from './deliveries.ts'
import { WebhookError } from './errors.ts'
import { ensureSecret, rotateSecret, signedHeaders, signingSecrets, type WebhookSecret } from './secrets.ts'

/** Of one project's generations. */
export interface Webhooks {
  /** @throws {WebhookError} `invalid_cursor` */
  deliveries(filters?: DeliveryFilters): Promise<DeliveryPage>
  /** Sends it again, whatever came of it; undefined when there is none. */
  replay(id: string): Promise<WebhookDelivery | undefined>
  /** Those that sign, the current one first. */
  secrets(): Promise<WebhookSecret[]>
  /** Of all projects: each signs with what is derived from one secret. @returns the caller's, from now on */
  rotate(overlapSeconds: number): Promise<WebhookSecret[]>
}

export interface WebhookService {
  of(caller: Pick<Caller, 'project'>): Webhooks
  /**
   * @param parameter which one it is; `webhook.url` unless told
   * @throws {WebhookError} `invalid_url`, for what can be said without asking anybody
   */
  checkUrl(url: string, parameter?: string): void
  /** What is being sent is due again at once, for whoever comes next. */
  close(): Promise<void>
}

export interface WebhookOptions {
  readonly storage: Storage
  readonly log: Logger
  /** Where requests may go beside the public internet. */
  readonly allowed: readonly AllowedTarget[]
  readonly resolver?: Resolver
  readonly tracing?: Tracing | undefined
  /** How often it is looked for what has become due. */
  readonly lookEveryMs?: number
}

const sentAtOnce = 16
const lookEvery = 5_000
const timeoutMs = 15_000
const maxResponseBytes = 64 * 1024
const maxErrorLength = 300
/** What says that nobody is there any more (Standard Webhooks, on 410). */
const goneStatus = 410

export async function startWebhookService(options: WebhookOptions): Promise<WebhookService> {
  const { storage, log, allowed, resolver, tracing, lookEveryMs = lookEvery } = options
  await ensureSecret(storage)
  const outbound = { allowed, timeoutMs, maxResponseBytes, ...(resolver && { resolver }) }
  const stop = new AbortController()
  const sending = new Set<Promise<void>>()
  let looking: Promise<void> | undefined
  let lookAgain = false

  function look(): void {
    lookAgain = true
    looking ??= takeAll()
      .catch((error: unknown) =>
        log.error({ err: error }, 'cannot look for webhooks to send; will try again'),
      )
      .finally(() => {
        looking = undefined
        if (lookAgain && sending.size < sentAtOnce && !stop.signal.aborted) look()
      })
  }

  async function takeAll(): Promise<void> {
    while (lookAgain && !stop.signal.aborted && sending.size < sentAtOnce) {
      lookAgain = false
      for (const delivery of await claimDue(storage, sentAtOnce - sending.size)) {
        lookAgain = true
        const sent: Promise<void> = deliver(delivery).finally(() => {
          sending.delete(sent)
          look()
        })
        sending.add(sent)
      }
    }
  }

  async function deliver(delivery: WebhookDelivery): Promise<void> {
    const { id, event, generationId, attempts } = delivery
    try {
      const { project, traceparent } = await originOf(storage, delivery)
      const trace = tracing?.delivery({ id, event, generationId, attempts, traceparent })
      const outcome = await send(delivery, project)
      trace?.end(outcome)
      await settleDelivery(storage, delivery, outcome)
      if (outcome.kind !== 'interrupted')
        log.info({ delivery: id, event, generationId, attempts, ...outcome }, 'webhook')
    } catch (error) {
      log.error({ err: error, delivery: id }, 'cannot write what came of a webhook; it is sent again')
    }
  }

  async function send(delivery: WebhookDelivery, project: Project): Promise<DeliveryOutcome> {
    const { id, url } = delivery
    const body = bodyOf(delivery)
    const headers = {
      'content-type': 'application/json',
      'user-agent': 'Atelier',
      ...signedHeaders({ id, sentAt: new Date(), body }, await signingSecrets(storage, project)),
    }
    try {
      const { status } = await post(url, { headers, body, signal: stop.signal }, outbound)
      if (status >= 200 && status < 300) return { kind: 'delivered', status }
      const error = `expected a status of 200 to 299, got ${status}`
      return { kind: status === goneStatus ? 'refused' : 'missed', status, error }
    } catch (error) {
      if (stop.signal.aborted) return { kind: 'interrupted' }
      if (!(error instanceof OutboundError)) throw error
      const { code, message } = error
      const isForbidden = code === 'invalid_target' || code === 'forbidden_target'
      return { kind: isForbidden ? 'refused' : 'missed', error: message.slice(0, maxErrorLength) }
    }
  }

  const stopListening = await storage.database.listen(dueChannel, look)
  const timer = setInterval(look, lookEveryMs)
  timer.unref()
  look()

  return {
    checkUrl(url, parameter = 'webhook.url') {
      try {
        checkTarget(url, allowed)
      } catch (error) {
        if (!(error instanceof OutboundError)) throw error
        throw new WebhookError('invalid_url', `${parameter}: ${error.message}`, { parameter, cause: error })
      }
    },
    of: ({ project }) => ({
      deliveries: (filters = {}) => listDeliveries(storage, project, filters),
      replay: (id) => replayDelivery(storage, project, id),
      secrets: () => signingSecrets(storage, project),
      async rotate(overlapSeconds) {
        await rotateSecret(storage, overlapSeconds * 1000)
        return signingSecrets(storage, project)
      },
    }),
    async close() {
      clearInterval(timer)
      await stopListening()
      stop.abort()
      await looking
      await Promise.all(sending)
    },
  }
}

/** The same bytes at every attempt. Ids only: what they stand for is told to who may ask. */
const bodyOf = ({ event, generationId, createdAt }: WebhookDelivery): string =>
  JSON.stringify({ type: event, timestamp: createdAt.toISOString(), data: { id: generationId } })
