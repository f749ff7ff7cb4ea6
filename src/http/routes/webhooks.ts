/** `/v1/webhooks`: what was told to whom, telling it again, and the secrets that it is signed with. */
import type { SchemaWebhookDelivery, SchemaWebhookSecretList } from '../../sdk/schema.ts'
import type { WebhookDelivery } from '../../webhooks/deliveries.ts'
import type { WebhookSecret } from '../../webhooks/secrets.ts'
import { callerOf } from '../caller.ts'
import { withDefaults, type Handler } from '../contract.ts'
import { ApiError } from '../errors.ts'
import { describeValue } from '../validation.ts'
import { refuseBody, type RouteDependencies } from './dependencies.ts'

export function listWebhookDeliveries({ webhooks }: RouteDependencies): Handler<'listWebhookDeliveries'> {
  return async (request) => {
    const { generation_id: generationId, ...filters } = request.query
    const { data, nextCursor } = await webhooks.of(callerOf(request)).deliveries({ ...filters, generationId })
    return { object: 'list', data: data.map(describeDelivery), next_cursor: nextCursor ?? null }
  }
}

export function replayWebhookDelivery({ webhooks }: RouteDependencies): Handler<'replayWebhookDelivery'> {
  return async (request, reply) => {
    refuseBody(request)
    const { id } = request.params
    const delivery = await webhooks.of(callerOf(request)).replay(id)
    if (!delivery) {
      const message = `id: expected a delivery's id, got ${describeValue(id)}; there is no such delivery`
      throw new ApiError('delivery_not_found', message, { param: 'id' })
    }
    reply.code(202)
    return describeDelivery(delivery)
  }
}

export function listWebhookSecrets({ webhooks }: RouteDependencies): Handler<'listWebhookSecrets'> {
  return async (request) => describeSecrets(await webhooks.of(callerOf(request)).secrets())
}

export function rotateWebhookSecret({
  webhooks,
  contract,
}: RouteDependencies): Handler<'rotateWebhookSecret'> {
  return async (request) => {
    const { body } = request
    const { overlap_seconds: overlapSeconds } = withDefaults(contract, 'RotateWebhookSecretRequest', body, [
      'overlap_seconds',
    ])
    return describeSecrets(await webhooks.of(callerOf(request)).rotate(overlapSeconds))
  }
}

const describeDelivery = (delivery: WebhookDelivery): SchemaWebhookDelivery => ({
  id: delivery.id,
  object: 'webhook.delivery',
  generation_id: delivery.generationId,
  event: delivery.event as SchemaWebhookDelivery['event'],
  url: delivery.url,
  state: delivery.state,
  attempts: delivery.attempts,
  last_status: delivery.lastStatus,
  last_error: delivery.lastError,
  created_at: delivery.createdAt.toISOString(),
  next_attempt_at: delivery.state === 'pending' ? delivery.dueAt.toISOString() : null,
  settled_at: delivery.settledAt?.toISOString() ?? null,
})

const describeSecrets = (secrets: readonly WebhookSecret[]): SchemaWebhookSecretList => ({
  object: 'list',
  data: secrets.map(({ secret, createdAt, retiresAt }) => ({
    object: 'webhook.secret',
    secret,
    created_at: createdAt.toISOString(),
    retires_at: retiresAt?.toISOString() ?? null,
  })),
})
