/**
 * The client of an Atelier service, for Node and browsers.
 *
 *     const atelier = createAtelier({ baseUrl: 'http://127.0.0.1:8080' })
 *     const { data } = await atelier.images.generate({ prompt: 'a lighthouse of blue glass', size: '1024x768' })
 *     const { bytes } = await atelier.images.content(data[0].id)
 *
 *     const { id } = await atelier.generations.create({ prompt: 'the same, slowly', steps: 50, preview_every: 5 })
 *     for await (const event of atelier.generations.events(id)) console.log(event.type)
 *
 *     const { id } = await atelier.datasets.upload(await openAsBlob('pets.zip'), { name: 'pets' })
 *     const { state, counts } = await atelier.datasets.wait(id)
 *
 *     const { jobs, checkpoints } = atelier.fineTuning
 *     const job = await jobs.create({ model: 'emoji', dataset: id, stages: [{ kind: 'aesthetic' }], suffix: 'pets' })
 *     await jobs.waitFor(job.id)
 *     const [newest] = await Array.fromAsync(checkpoints.list(job.id))
 *     await checkpoints.deploy(job.id, newest.id)
 */
import createClient, { type Client } from 'openapi-fetch'
import { expectSuccess, unwrap, withKey, withSignal, type RequestOptions } from './calls.ts'
import { createDatasets, type Datasets } from './datasets.ts'
import {
  createDeployments,
  createFineTuning,
  type DeploymentCalls,
  type FineTuning,
  type KeyedOptions,
} from './fine-tuning.ts'
import { createGenerations, type Generations } from './generations.ts'
import { readImageStream, type ImageStreamEvent } from './image-stream.ts'
import { createKeys, type Keys } from './keys.ts'
import { retryingFetch } from './retry.ts'
import { createWebhooks, type Webhooks } from './webhooks.ts'
import type {
  paths,
  SchemaDeployment,
  SchemaDeviceList,
  SchemaGeneratedImages,
  SchemaGenerateImagesRequest,
  SchemaImage,
  SchemaModel,
  SchemaModelList,
} from './schema.ts'

export type { RequestOptions } from './calls.ts'
export type {
  Archive,
  DatasetFilters,
  DatasetItemFilters,
  DatasetProblemFilters,
  Datasets,
  UploadRequest,
} from './datasets.ts'
export { AtelierError, type AtelierErrorCode } from './errors.ts'
export type { DeploymentCalls, FineTuning, KeyedOptions } from './fine-tuning.ts'
export type { CreateOptions, EventsOptions, Generations, ListFilters } from './generations.ts'
export type { ImageStreamEvent } from './image-stream.ts'
export type { KeyFilters, Keys } from './keys.ts'
export type * from './schema.ts'
export type { DeliveryFilters, Webhooks } from './webhooks.ts'

export interface AtelierOptions {
  /** Where the service is, without `/v1`. */
  readonly baseUrl: string
  /** Sent as a bearer token. */
  readonly apiKey?: string | undefined
  /** Attempts after the first, on 429, 5xx and, where a request may run twice, broken connections. 2 when left out. */
  readonly maxRetries?: number | undefined
  /** How long one attempt may wait for its answer. 10 minutes when left out. Node's own fetch gives up after 5 minutes. */
  readonly timeoutMs?: number | undefined
  /** The longest wait before another attempt. One minute when left out. */
  readonly maxDelayMs?: number | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly fetch?: ((request: Request) => Promise<Response>) | undefined
}

export interface GenerateOptions extends RequestOptions {
  /**
   * Without a key, a call that is aborted, times out or loses its connection is cancelled by the service: nobody would fetch
   * the pictures. With one (a UUID, new for each picture wanted), the service finishes them whatever happens, a broken
   * connection is tried again, and the same call with the same key returns the same pictures for 24 hours.
   */
  readonly idempotencyKey?: string | undefined
}

export interface ImageContent {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** `image/png`, `image/jpeg` or `image/webp` */
  readonly contentType: string
}

export interface Atelier {
  readonly images: {
    /** @throws {AtelierError} */
    generate(request: SchemaGenerateImagesRequest, options?: GenerateOptions): Promise<SchemaGeneratedImages>
    /**
     * Makes one picture and shows it on the way, `partial_images` times, before the completed one.
     * @throws {AtelierError} also in the middle
     */
    stream(
      request: Omit<SchemaGenerateImagesRequest, 'stream'>,
      options?: GenerateOptions,
    ): AsyncGenerator<ImageStreamEvent, void, undefined>
    /** What is known of a picture, with the `parameters` that make it again. @throws {AtelierError} */
    retrieve(id: string, options?: RequestOptions): Promise<SchemaImage>
    /** @throws {AtelierError} */
    content(id: string, options?: RequestOptions): Promise<ImageContent>
  }
  readonly generations: Generations
  readonly datasets: Datasets
  readonly fineTuning: FineTuning
  readonly deployments: DeploymentCalls
  readonly webhooks: Webhooks
  readonly keys: Keys
  readonly devices: {
    /** What each did in the last seconds, up to 15 minutes. @throws {AtelierError} */
    list(filters?: { readonly seconds?: number }, options?: RequestOptions): Promise<SchemaDeviceList>
  }
  readonly models: {
    /** @throws {AtelierError} */
    list(options?: RequestOptions): Promise<SchemaModelList>
    /** @throws {AtelierError} */
    retrieve(id: string, options?: RequestOptions): Promise<SchemaModel>
    /** Serves again what served before the live deployment. @throws {AtelierError} */
    rollback(id: string, options?: KeyedOptions): Promise<SchemaModel>
    /** Takes back all that was deployed under the name; resolves to what served until now. @throws {AtelierError} */
    withdraw(id: string, options?: RequestOptions): Promise<SchemaDeployment>
  }
  /** The typed client underneath, for every other operation of the contract; it retries, and returns errors unthrown. */
  readonly raw: Client<paths, 'application/json'>
}

export function createAtelier(options: AtelierOptions): Atelier {
  const { baseUrl, apiKey, maxRetries = 2, timeoutMs = 600_000, maxDelayMs = 60_000 } = options
  const fetch = options.fetch ?? ((request: Request) => globalThis.fetch(request))
  const raw = createClient<paths, 'application/json'>({
    baseUrl,
    headers: { ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }), ...options.headers },
    fetch: retryingFetch({
      fetch,
      maxRetries,
      timeoutMs,
      maxDelayMs,
      random: Math.random,
    }),
  })
  return {
    images: {
      generate(body, { signal, idempotencyKey } = {}) {
        const header = withKey(idempotencyKey)
        const init = { body, params: { header }, ...withSignal(signal) }
        return unwrap<SchemaGeneratedImages>(raw.POST('/v1/images/generations', init), signal)
      },
      async *stream(request, { signal, idempotencyKey } = {}) {
        const params = { header: withKey(idempotencyKey) }
        const body = { ...request, stream: true }
        const init = { body, params, parseAs: 'stream' as const, ...withSignal(signal) }
        yield* readImageStream(await expectSuccess(raw.POST('/v1/images/generations', init), signal), signal)
      },
      retrieve(id, { signal } = {}) {
        return unwrap(raw.GET('/v1/images/{id}', { params: { path: { id } }, ...withSignal(signal) }), signal)
      },
      async content(id, { signal } = {}) {
        const init = { params: { path: { id } }, parseAs: 'arrayBuffer' as const, ...withSignal(signal) }
        const answer = raw.GET('/v1/images/{id}/content', init)
        const bytes = new Uint8Array(await unwrap<ArrayBuffer>(answer, signal))
        const { response } = await answer
        return { bytes, contentType: response.headers.get('content-type') ?? '' }
      },
    },
    generations: createGenerations(raw, { maxRetries, maxDelayMs }),
    datasets: createDatasets(raw, { fetch }),
    fineTuning: createFineTuning(raw, { maxRetries, maxDelayMs }),
    deployments: createDeployments(raw),
    webhooks: createWebhooks(raw),
    keys: createKeys(raw),
    devices: {
      list(query = {}, { signal } = {}) {
        return unwrap(raw.GET('/v1/devices', { params: { query }, ...withSignal(signal) }), signal)
      },
    },
    models: {
      list({ signal } = {}) {
        return unwrap(raw.GET('/v1/models', withSignal(signal)), signal)
      },
      retrieve(id, { signal } = {}) {
        return unwrap(raw.GET('/v1/models/{id}', { params: { path: { id } }, ...withSignal(signal) }), signal)
      },
      rollback(id, { signal, idempotencyKey } = {}) {
        const init = { params: { path: { id }, header: withKey(idempotencyKey) }, ...withSignal(signal) }
        return unwrap(raw.POST('/v1/models/{id}/rollback', init), signal)
      },
      withdraw(id, { signal } = {}) {
        const init = { params: { path: { id } }, ...withSignal(signal) }
        return unwrap(raw.POST('/v1/models/{id}/withdraw', init), signal)
      },
    },
    raw,
  }
}
