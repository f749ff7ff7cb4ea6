/** The client's part for keys; it needs one with the scope `admin`, where the service has keys at all. */
import type { Client } from 'openapi-fetch'
import { unwrap, withSignal, type RequestOptions } from './calls.ts'
import { followPages } from './pages.ts'
import type {
  operations,
  paths,
  SchemaCreatedKey,
  SchemaCreateKeyRequest,
  SchemaKey,
  SchemaUpdateKeyRequest,
} from './schema.ts'

export type KeyFilters = NonNullable<operations['listKeys']['parameters']['query']>

export interface Keys {
  /** The answer's `key` is the key itself, which cannot be had again. @throws {AtelierError} */
  create(request: SchemaCreateKeyRequest, options?: RequestOptions): Promise<SchemaCreatedKey>
  /** @throws {AtelierError} */
  retrieve(id: string, options?: RequestOptions): Promise<SchemaKey>
  /** Newest first, page by page as they are asked for. @throws {AtelierError} */
  list(filters?: KeyFilters, options?: RequestOptions): AsyncGenerator<SchemaKey, void, undefined>
  /** Where the ends of its generations are told from now on. @throws {AtelierError} */
  update(id: string, changes: SchemaUpdateKeyRequest, options?: RequestOptions): Promise<SchemaKey>
  /** For good. @throws {AtelierError} */
  revoke(id: string, options?: RequestOptions): Promise<SchemaKey>
}

export function createKeys(raw: Client<paths, 'application/json'>): Keys {
  return {
    create(body, { signal } = {}) {
      return unwrap<SchemaCreatedKey>(raw.POST('/v1/keys', { body, ...withSignal(signal) }), signal)
    },
    retrieve(id, { signal } = {}) {
      return unwrap(raw.GET('/v1/keys/{id}', { params: { path: { id } }, ...withSignal(signal) }), signal)
    },
    list: (filters = {}, { signal } = {}) =>
      followPages((cursor) => {
        const query = { ...filters, ...cursor }
        return unwrap(raw.GET('/v1/keys', { params: { query }, ...withSignal(signal) }), signal)
      }),
    update(id, body, { signal } = {}) {
      const init = { params: { path: { id } }, body, ...withSignal(signal) }
      return unwrap(raw.PATCH('/v1/keys/{id}', init), signal)
    },
    revoke(id, { signal } = {}) {
      return unwrap(raw.DELETE('/v1/keys/{id}', { params: { path: { id } }, ...withSignal(signal) }), signal)
    },
  }
}
