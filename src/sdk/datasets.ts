/** The client's face of `/v1/datasets`. */
import type { Client } from 'openapi-fetch'
import { expectSuccess, unwrap, withSignal, type RequestOptions } from './calls.ts'
import { AtelierError } from './errors.ts'
import { followPages } from './pages.ts'
import { sleep } from './retry.ts'
import type {
  operations,
  paths,
  SchemaCreateDatasetRequest,
  SchemaDataset,
  SchemaDatasetItem,
  SchemaDatasetItemList,
  SchemaDatasetList,
  SchemaDatasetProblem,
  SchemaDatasetProblemList,
  SchemaUpdateDatasetItemRequest,
} from './schema.ts'

/** A zip, tar or tar.gz; in Node, `openAsBlob(file)` is one that is not read into memory. */
export type Archive = Blob | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>

type Query<O extends keyof operations> = NonNullable<operations[O]['parameters']['query']>

export type UploadRequest = Query<'createDataset'> & { readonly name: string }

export type DatasetFilters = Query<'listDatasets'>
export type DatasetItemFilters = Query<'listDatasetItems'>
export type DatasetProblemFilters = Query<'listDatasetProblems'>

export interface Datasets {
  /** Sends an archive; nothing is tried again. Its check goes on after the answer: `wait`. @throws {AtelierError} */
  upload(archive: Archive, request: UploadRequest, options?: RequestOptions): Promise<SchemaDataset>
  /** From a folder of the server. @throws {AtelierError} */
  create(request: SchemaCreateDatasetRequest, options?: RequestOptions): Promise<SchemaDataset>
  /** With `resolution`, also how its pictures fall into buckets. @throws {AtelierError} */
  retrieve(id: string, options?: RequestOptions & { resolution?: number | undefined }): Promise<SchemaDataset>
  /** All of them, newest first; pages are fetched as they are needed. @throws {AtelierError} */
  list(filters?: DatasetFilters, options?: RequestOptions): AsyncGenerator<SchemaDataset, void, undefined>
  /** The dataset once it is ready or has failed. @throws {AtelierError} */
  wait(id: string, options?: RequestOptions): Promise<SchemaDataset>
  /** @throws {AtelierError} */
  delete(id: string, options?: RequestOptions): Promise<void>
  /** What is wrong with its files. @throws {AtelierError} */
  problems(
    id: string,
    filters?: DatasetProblemFilters,
    options?: RequestOptions,
  ): AsyncGenerator<SchemaDatasetProblem, void, undefined>
  /** Its pictures, in the order of their paths. @throws {AtelierError} */
  items(
    id: string,
    filters?: DatasetItemFilters,
    options?: RequestOptions,
  ): AsyncGenerator<SchemaDatasetItem, void, undefined>
  /** One page of them. @throws {AtelierError} */
  itemPage(id: string, filters?: DatasetItemFilters, options?: RequestOptions): Promise<SchemaDatasetItemList>
  /** @throws {AtelierError} */
  updateItem(
    id: string,
    item: string,
    changes: SchemaUpdateDatasetItemRequest,
    options?: RequestOptions,
  ): Promise<SchemaDatasetItem>
}

interface Fetching {
  /** Without retries, which would keep a copy of all that is sent. */
  readonly fetch: (request: Request) => Promise<Response>
}

const firstPollMs = 250
const maxPollMs = 4_000

export function createDatasets(raw: Client<paths, 'application/json'>, { fetch }: Fetching): Datasets {
  const page = (query: DatasetFilters, { signal }: RequestOptions): Promise<SchemaDatasetList> =>
    unwrap(raw.GET('/v1/datasets', { params: { query }, ...withSignal(signal) }), signal)
  const problemPage = (
    id: string,
    query: DatasetProblemFilters,
    { signal }: RequestOptions,
  ): Promise<SchemaDatasetProblemList> => {
    const params = { path: { id }, query }
    return unwrap(raw.GET('/v1/datasets/{id}/problems', { params, ...withSignal(signal) }), signal)
  }
  const datasets: Datasets = {
    upload(archive, query, { signal } = {}) {
      const init = {
        params: { query },
        body: archive,
        bodySerializer: () => archive,
        headers: { 'content-type': 'application/octet-stream' },
        fetch: connecting(fetch),
        // A stream can be sent in no other way (https://fetch.spec.whatwg.org/#dom-requestinit-duplex).
        duplex: 'half' as const,
        ...withSignal(signal),
      }
      return unwrap<SchemaDataset>(raw.POST('/v1/datasets', init), signal)
    },
    create(body, { signal } = {}) {
      return unwrap<SchemaDataset>(raw.POST('/v1/datasets', { body, ...withSignal(signal) }), signal)
    },
    retrieve(id, { signal, resolution } = {}) {
      const params = { path: { id }, query: resolution === undefined ? {} : { resolution } }
      return unwrap(raw.GET('/v1/datasets/{id}', { params, ...withSignal(signal) }), signal)
    },
    list: (filters = {}, options = {}) => followPages((cursor) => page({ ...filters, ...cursor }, options)),
    async wait(id, options = {}) {
      for (let delayMs = firstPollMs; ; delayMs = Math.min(2 * delayMs, maxPollMs)) {
        const dataset = await datasets.retrieve(id, options)
        if (dataset.state === 'ready' || dataset.state === 'failed') return dataset
        await sleep(delayMs, options.signal)
      }
    },
    async delete(id, { signal } = {}) {
      const init = { params: { path: { id } }, ...withSignal(signal) }
      await expectSuccess(raw.DELETE('/v1/datasets/{id}', init), signal)
    },
    problems: (id, filters = {}, options = {}) =>
      followPages((cursor) => problemPage(id, { ...filters, ...cursor }, options)),
    items: (id, filters = {}, options = {}) =>
      followPages((cursor) => datasets.itemPage(id, { ...filters, ...cursor }, options)),
    itemPage(id, query = {}, { signal } = {}) {
      const params = { path: { id }, query }
      return unwrap(raw.GET('/v1/datasets/{id}/items', { params, ...withSignal(signal) }), signal)
    },
    updateItem(id, item, body, { signal } = {}) {
      const params = { path: { id, item } }
      const init = { params, body, ...withSignal(signal) }
      return unwrap(raw.PATCH('/v1/datasets/{id}/items/{item}', init), signal)
    },
  }
  return datasets
}

function connecting(fetch: Fetching['fetch']): Fetching['fetch'] {
  return async (request) => {
    try {
      return await fetch(request)
    } catch (cause) {
      if (request.signal.aborted) throw request.signal.reason
      throw new AtelierError(`cannot reach ${request.url}, or it broke off the upload`, {
        code: 'connection_failed',
        cause,
      })
    }
  }
}
