/**
 * Lets requests in. A service that has no keys takes whoever reaches its own address (`local-only.ts`); one that has keys takes
 * those who bring one with a scope that the operation names in openapi.yaml, and shows a picture to whoever has its signed address.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { keyless, type Caller } from '../access/caller.ts'
import type { KeyFault } from '../access/keyring.ts'
import type { ApiKey } from '../access/keys.ts'
import type { AccessService } from '../access/service.ts'
import type { Config } from '../config.ts'
import { letIn, letInByAddress } from './caller.ts'
import { operationOf, type ContractDocument } from './contract.ts'
import { ApiError } from './errors.ts'
import type { Links } from './links.ts'
import { refuseForeign } from './local-only.ts'
import type { RateLimits } from './rate-limits.ts'
import { readRequirements } from './requirements.ts'

export interface Doorkeeper {
  /** @throws {ApiError} `invalid_api_key`, `insufficient_scope`, `rate_limit_exceeded`, `host_not_allowed`, `origin_not_allowed`, `url_expired`, `invalid_signature` */
  admit(request: FastifyRequest, reply: FastifyReply): Promise<void>
}

export interface DoorkeeperOptions extends Pick<AccessService, 'keyring'> {
  readonly document: ContractDocument
  readonly limits: RateLimits
  readonly links: Pick<Links, 'isSigned'>
  readonly config: Config
}

/** @throws when openapi.yaml does not say of each operation who may call it */
export function createDoorkeeper(options: DoorkeeperOptions): Doorkeeper {
  const { keyring, document, limits, links, config } = options
  const requirements = readRequirements(document)

  /** Of an address from which too many wrong ones came only keys are heard that were seen to be right before. */
  async function judge(request: FastifyRequest): Promise<{ readonly key: ApiKey } | ApiError> {
    const { authorization } = request.headers
    if (authorization === undefined) return refusal('got nothing', challenge)
    const text = /^bearer +([^\s,]+)$/i.exec(authorization)?.[1]
    if (text === undefined) return refusal('got something else')
    if (limits.isRefused(request) && !keyring.hasSeen(text)) return refusal(faults.unknown)
    const verdict = await keyring.judge(text)
    return verdict.kind === 'valid' ? verdict : refusal(faults[verdict.fault])
  }

  return {
    async admit(request, reply) {
      if (!(await keyring.hasKeys())) {
        refuseForeign(request, config)
        links.isSigned(request)
        letIn(request, keyless)
        return
      }
      const requirement = requirements.get(operationOf(request) ?? '')
      // What the contract does not know is answered with 404 or 405, to anybody.
      if (requirement === undefined || requirement === 'nothing') return
      if (requirement.bySignature && links.isSigned(request)) {
        letInByAddress(request)
        return
      }
      const verdict = await judge(request)
      if (verdict instanceof ApiError) {
        await limits.countRefusal(request, reply)
        throw verdict
      }
      const { key } = verdict
      await limits.countKey(key, request, reply)
      const { anyOf } = requirement
      if (!anyOf.some((scope) => key.scopes.includes(scope)))
        throw new ApiError(
          'insufficient_scope',
          `expected a key with the scope ${anyOf.join(' or ')}, got one with ${key.scopes.join(', ')}`,
        )
      letIn(request, callerWith(key, config))
    },
  }
}

const challenge = 'Bearer realm="atelier"'

const faults: Readonly<Record<KeyFault, string>> = {
  malformed: 'got a text that is no key; keys begin with "atl_"',
  mistyped: 'got one that was cut or mistyped: its checksum is wrong',
  unknown: 'got one that is not known here',
  expired: 'got one that has expired',
  revoked: 'got one that was revoked',
}

/** @param authenticate as RFC 6750, section 3, has it: no error is named to whoever sent no key */
const refusal = (came: string, authenticate = `${challenge}, error="invalid_token"`): ApiError =>
  new ApiError('invalid_api_key', `Authorization: expected "Bearer" and an API key, ${came}`, {
    headers: { 'www-authenticate': authenticate },
  })

function callerWith(key: ApiKey, config: Config): Caller {
  return {
    project: key.project,
    key: {
      id: key.id,
      maxInFlight: key.maxInFlight ?? (config.maxInFlight || undefined),
      imagesPerMonth: key.imagesPerMonth ?? (config.imagesPerMonth || undefined),
      webhookUrl: key.webhookUrl,
    },
  }
}
