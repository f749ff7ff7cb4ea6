/** The client's face of `/v1/webhooks`. */
import type { Client } from 'openapi-fetch'
import { unwrap, withSignal, type RequestOptions } from './calls.ts'
import type {
  operations,
  paths,
  SchemaWebhookDelivery,
  SchemaWebhookDeliveryList,
  SchemaWebhookSecretList,
} from './schema.ts'

export type DeliveryFilters = NonNullable<operations['listWebhookDeliveries']['parameters']['query']>

export interface Webhooks {
  /** One page, newest first. @throws {AtelierError} */
  deliveries(filters?: DeliveryFilters, options?: RequestOptions): Promise<SchemaWebhookDeliveryList>
  /** Sends it again, whatever came of it. @throws {AtelierError} */
  replay(id: string, options?: RequestOptions): Promise<SchemaWebhookDelivery>
  /** What webhooks are signed with, the current one first; a library of Standard Webhooks verifies them. @throws {AtelierError} */
  secrets(options?: RequestOptions): Promise<SchemaWebhookSecretList>
  /** The secret of before signs beside the new one for so long, a day when left out. @throws {AtelierError} */
  rotateSecret(
    options?: RequestOptions & { overlapSeconds?: number | undefined },
  ): Promise<SchemaWebhookSecretList>
}

export function createWebhooks(raw: Client<paths, 'application/json'>): Webhooks {
  return {
    deliveries(query = {}, { signal } = {}) {
      return unwrap(raw.GET('/v1/webhooks/deliveries', { params: { query }, ...withSignal(signal) }), signal)
    },
    replay(id, { signal } = {}) {
      const init = { params: { path: { id } }, ...withSignal(signal) }
      return unwrap<SchemaWebhookDelivery>(raw.POST('/v1/webhooks/deliveries/{id}/replay', init), signal)
    },
    secrets({ signal } = {}) {
      return unwrap(raw.GET('/v1/webhooks/secrets', withSignal(signal)), signal)
    },
    rotateSecret({ signal, overlapSeconds } = {}) {
      const body = overlapSeconds === undefined ? {} : { overlap_seconds: overlapSeconds }
      return unwrap(raw.POST('/v1/webhooks/secrets/rotate', { body, ...withSignal(signal) }), signal)
    },
  }
}
