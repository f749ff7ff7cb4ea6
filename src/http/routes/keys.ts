/** `/v1/keys`: the keys of the caller's project, made, looked at, changed and revoked. */
import type { ApiKey } from '../../access/keys.ts'
import type { SchemaKey } from '../../sdk/schema.ts'
import { callerOf } from '../caller.ts'
import { withDefaults, type Handler } from '../contract.ts'
import { addressOf } from '../links.ts'
import { readTime, refuseBody, type RouteDependencies } from './dependencies.ts'

export function createKey({ access, config, contract, webhooks }: RouteDependencies): Handler<'createKey'> {
  return async (request, reply) => {
    const { body } = request
    if (body.webhook_url != null) webhooks.checkUrl(body.webhook_url, 'webhook_url')
    const { key, text } = await access.keys.create({
      project: callerOf(request).project,
      name: body.name,
      scopes: withDefaults(contract, 'CreateKeyRequest', body, ['scopes']).scopes,
      expiresAt: body.expires_at == null ? undefined : readTime(body.expires_at, 'expires_at'),
      requestsPerMinute: body.requests_per_minute ?? undefined,
      maxInFlight: body.max_in_flight ?? undefined,
      imagesPerMonth: body.images_per_month ?? undefined,
      webhookUrl: body.webhook_url ?? undefined,
    })
    request.log.info({ keyId: key.id, scopes: key.scopes }, 'key made')
    reply.headers({
      location: `${addressOf(request, config)}/v1/keys/${key.id}`,
      'cache-control': 'no-store',
    })
    return { ...describeKey(key), key: text }
  }
}

export function listKeys({ access }: RouteDependencies): Handler<'listKeys'> {
  return async (request) => {
    const { limit, cursor } = request.query
    const { data, nextCursor } = await access.keys.list(callerOf(request).project, { limit, cursor })
    return { object: 'list', data: data.map(describeKey), next_cursor: nextCursor ?? null }
  }
}

export function getKey({ access }: RouteDependencies): Handler<'getKey'> {
  return async (request) => describeKey(await access.keys.get(callerOf(request).project, request.params.id))
}

export function updateKey({ access, webhooks }: RouteDependencies): Handler<'updateKey'> {
  return async (request) => {
    const { webhook_url: url } = request.body
    if (url !== null) webhooks.checkUrl(url, 'webhook_url')
    const key = await access.keys.tell(callerOf(request).project, request.params.id, url ?? undefined)
    request.log.info({ keyId: key.id }, 'key changed')
    return describeKey(key)
  }
}

export function revokeKey({ access }: RouteDependencies): Handler<'revokeKey'> {
  return async (request) => {
    refuseBody(request)
    const key = await access.keys.revoke(callerOf(request).project, request.params.id)
    request.log.info({ keyId: key.id }, 'key revoked')
    return describeKey(key)
  }
}

function describeKey(key: ApiKey): SchemaKey {
  return {
    id: key.id,
    object: 'key',
    project: key.project,
    name: key.name,
    prefix: key.prefix,
    scopes: [...key.scopes],
    requests_per_minute: key.requestsPerMinute ?? null,
    max_in_flight: key.maxInFlight ?? null,
    images_per_month: key.imagesPerMonth ?? null,
    webhook_url: key.webhookUrl ?? null,
    created_at: key.createdAt.toISOString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
    last_used_at: key.lastUsedAt?.toISOString() ?? null,
    revoked_at: key.revokedAt?.toISOString() ?? null,
  }
}
