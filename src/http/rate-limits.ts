/** How many requests a key may send in a minute, and how many without a valid key an address may: told in every answer's head. */
import { callbackify } from 'node:util'
import rateLimit, { normalizeIP, type FastifyRateLimitStoreCtor } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ApiKey } from '../access/keys.ts'
import { windowMs, type RateWindows } from '../access/rate-windows.ts'
import type { Config } from '../config.ts'
import { ApiError } from './errors.ts'

export interface RateLimits {
  /** @throws {ApiError} `rate_limit_exceeded` */
  countKey(key: ApiKey, request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** @throws {ApiError} `rate_limit_exceeded` */
  countRefusal(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** Whether nothing more is heard from the request's address that is not known to be from somebody. */
  isRefused(request: FastifyRequest): boolean
}

type Windows = Pick<RateWindows, 'take' | 'isSpent'>
type Limiter = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

export async function registerRateLimits(
  app: FastifyInstance,
  windows: Windows,
  config: Pick<Config, 'requestsPerMinute' | 'refusalsPerMinute'>,
): Promise<RateLimits> {
  await app.register(rateLimit, {
    global: false,
    timeWindow: windowMs,
    enableDraftSpec: true,
    store: storeOver(windows),
    errorResponseBuilder: (_request, { max, ttl }) =>
      new ApiError(
        'rate_limit_exceeded',
        `expected at most ${max} requests a minute, got more; try again in ${Math.ceil(ttl / 1000)} seconds`,
      ),
  })
  const keys = new WeakMap<FastifyRequest['raw'], ApiKey>()
  const limitOf = (key: ApiKey | undefined): number => key?.requestsPerMinute ?? config.requestsPerMinute
  const byKey = app.rateLimit({
    keyGenerator: ({ raw }) => `key ${keys.get(raw)?.id}`,
    max: ({ raw }) => limitOf(keys.get(raw)),
  }) as Limiter
  const byAddress = app.rateLimit({ keyGenerator: addressOf, max: config.refusalsPerMinute }) as Limiter
  return {
    async countKey(key, request, reply) {
      if (limitOf(key) === 0) return
      keys.set(request.raw, key)
      await byKey.call(app, request, reply)
    },
    async countRefusal(request, reply) {
      if (config.refusalsPerMinute > 0) await byAddress.call(app, request, reply)
    },
    isRefused: (request) => windows.isSpent(addressOf(request)),
  }
}

/** An IPv6 network of 64 bits is one address: whoever has one has all. */
const addressOf = ({ ip }: Pick<FastifyRequest, 'ip'>): string => `address ${normalizeIP(ip)}`

/** The plugin's store, whose count of requests is the database's. */
function storeOver(windows: Windows): FastifyRateLimitStoreCtor {
  const count = callbackify(async (subject: string, max: number) => {
    const { granted, remaining, resetMs } = await windows.take(subject, max)
    return { current: granted ? max - remaining : max + 1, ttl: resetMs }
  })
  return class {
    incr(
      subject: string,
      done: (error: Error | null, result?: { current: number; ttl: number }) => void,
      _timeWindow: number,
      max: number,
    ): void {
      count(subject, max, done)
    }

    child(): this {
      return this
    }
  }
}
