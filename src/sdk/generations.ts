/** The client's face of `/v1/generations`. */
import type { Client } from 'openapi-fetch'
import { expectSuccess, unwrap, withKey, withSignal, type RequestOptions } from './calls.ts'
import { follow, type Patience } from './follow.ts'
import type {
  operations,
  paths,
  SchemaCreateGenerationRequest,
  SchemaFinalEvent,
  SchemaGeneration,
  SchemaGenerationEvent,
  SchemaGenerationList,
} from './schema.ts'

export interface CreateOptions extends RequestOptions {
  /** With a key (a UUID, new for each generation wanted) a broken connection is tried again, and nothing is made twice. */
  readonly idempotencyKey?: string | undefined
  /** For how long to wait for the end, 600 seconds at most; the answer comes at once when left out. */
  readonly waitSeconds?: number | undefined
}

export interface EventsOptions extends RequestOptions {
  /** The id of the last event that is known already. */
  readonly afterEventId?: number | undefined
}

export type ListFilters = NonNullable<operations['listGenerations']['parameters']['query']>

export interface Generations {
  /** @throws {AtelierError} */
  create(request: SchemaCreateGenerationRequest, options?: CreateOptions): Promise<SchemaGeneration>
  /** @throws {AtelierError} */
  retrieve(id: string, options?: RequestOptions): Promise<SchemaGeneration>
  /** All of them, newest first; pages are fetched as they are needed. @throws {AtelierError} */
  list(filters?: ListFilters, options?: RequestOptions): AsyncGenerator<SchemaGeneration, void, undefined>
  /** One page. @throws {AtelierError} */
  page(filters?: ListFilters, options?: RequestOptions): Promise<SchemaGenerationList>
  /** Ends it unless it has ended. @throws {AtelierError} */
  cancel(
    id: string,
    options?: RequestOptions & Pick<CreateOptions, 'idempotencyKey'>,
  ): Promise<SchemaGeneration>
  /** Removes one that has ended, with its pictures. @throws {AtelierError} */
  delete(id: string, options?: RequestOptions): Promise<void>
  /** Removes all that have ended and were created before a time, with their pictures. @returns how many. @throws {AtelierError} */
  deleteCreatedBefore(time: Date | string, options?: RequestOptions): Promise<number>
  /**
   * What happens to it, up to its end, each event once and in order; a connection that breaks is taken up again where it was.
   * @throws {AtelierError}
   */
  events(id: string, options?: EventsOptions): AsyncGenerator<SchemaGenerationEvent, void, undefined>
  /** The generation once it has ended, in whichever way. @throws {AtelierError} */
  wait(id: string, options?: RequestOptions): Promise<SchemaGeneration>
}

export function createGenerations(raw: Client<paths, 'application/json'>, patience: Patience): Generations {
  const generations: Generations = {
    create(body, { signal, idempotencyKey, waitSeconds } = {}) {
      const prefer = waitSeconds === undefined ? {} : { Prefer: `wait=${waitSeconds}` }
      const header = { ...withKey(idempotencyKey), ...prefer }
      return unwrap(raw.POST('/v1/generations', { body, params: { header }, ...withSignal(signal) }), signal)
    },
    retrieve(id, { signal } = {}) {
      return unwrap(
        raw.GET('/v1/generations/{id}', { params: { path: { id } }, ...withSignal(signal) }),
        signal,
      )
    },
    async *list(filters = {}, options = {}) {
      let cursor = filters.cursor
      do {
        const { data, next_cursor } = await generations.page(
          { ...filters, ...(cursor && { cursor }) },
          options,
        )
        yield* data
        cursor = next_cursor ?? undefined
      } while (cursor !== undefined)
    },
    page(query = {}, { signal } = {}) {
      return unwrap(raw.GET('/v1/generations', { params: { query }, ...withSignal(signal) }), signal)
    },
    cancel(id, { signal, idempotencyKey } = {}) {
      const params = { path: { id }, header: withKey(idempotencyKey) }
      return unwrap(raw.POST('/v1/generations/{id}/cancel', { params, ...withSignal(signal) }), signal)
    },
    async delete(id, { signal } = {}) {
      const init = { params: { path: { id } }, ...withSignal(signal) }
      await expectSuccess(raw.DELETE('/v1/generations/{id}', init), signal)
    },
    async deleteCreatedBefore(time, { signal } = {}) {
      const query = { created_before: typeof time === 'string' ? time : time.toISOString() }
      const init = { params: { query }, ...withSignal(signal) }
      const { deleted } = await unwrap(raw.DELETE('/v1/generations', init), signal)
      return deleted
    },
    events(id, { signal, afterEventId } = {}) {
      const connect = (lastEventId: number | undefined) => {
        const header = lastEventId === undefined ? {} : { 'Last-Event-ID': String(lastEventId) }
        const init = { params: { path: { id }, header }, parseAs: 'stream' as const, ...withSignal(signal) }
        return expectSuccess(raw.GET('/v1/generations/{id}/events', init), signal)
      }
      return follow<SchemaGenerationEvent>(
        { connect, after: afterEventId, idOf: (event) => event.id, isFinal, signal },
        patience,
      )
    },
    async wait(id, options = {}) {
      for await (const event of generations.events(id, options)) if (isFinal(event)) return event.generation
      return generations.retrieve(id, options)
    },
  }
  return generations
}

function isFinal(event: SchemaGenerationEvent): event is SchemaFinalEvent {
  return event.type === 'succeeded' || event.type === 'failed' || event.type === 'cancelled'
}
