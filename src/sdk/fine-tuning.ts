/** The client's face of `/v1/fine_tuning` and `/v1/deployments`. */
import type { Client } from 'openapi-fetch'
import { expectSuccess, unwrap, withKey, withSignal, type RequestOptions } from './calls.ts'
import { AtelierError } from './errors.ts'
import { follow, type Patience } from './follow.ts'
import type {
  operations,
  paths,
  SchemaCreateFineTuningJobRequest,
  SchemaDeployCheckpointRequest,
  SchemaDeployment,
  SchemaFineTuningCheckpoint,
  SchemaFineTuningEvent,
  SchemaFineTuningJob,
  SchemaFineTuningMetric,
  SchemaFineTuningPlan,
  SchemaFineTuningSample,
} from './schema.ts'

type Query<O extends keyof operations> = operations[O] extends { parameters: { query?: infer Q } }
  ? NonNullable<Q>
  : never
type JobRequest = Omit<SchemaCreateFineTuningJobRequest, 'dry_run'>

export interface KeyedOptions extends RequestOptions {
  /** With a key (a UUID, new for each job or deployment wanted) a broken connection is tried again, and nothing is made twice. */
  readonly idempotencyKey?: string | undefined
}

export interface FineTuning {
  readonly jobs: {
    /** What the job would be and take; nothing is created. @throws {AtelierError} */
    plan(request: JobRequest, options?: RequestOptions): Promise<SchemaFineTuningPlan>
    /** @throws {AtelierError} */
    create(request: JobRequest, options?: KeyedOptions): Promise<SchemaFineTuningJob>
    /** @throws {AtelierError} */
    retrieve(id: string, options?: RequestOptions): Promise<SchemaFineTuningJob>
    /** All of them, newest first; pages are fetched as they are needed. @throws {AtelierError} */
    list(
      filters?: Query<'listFineTuningJobs'>,
      options?: RequestOptions,
    ): AsyncGenerator<SchemaFineTuningJob, void, undefined>
    /** Each throws {AtelierError}. */
    cancel(id: string, options?: RequestOptions): Promise<SchemaFineTuningJob>
    pause(id: string, options?: RequestOptions): Promise<SchemaFineTuningJob>
    resume(id: string, options?: RequestOptions): Promise<SchemaFineTuningJob>
    delete(id: string, options?: RequestOptions): Promise<void>
    /**
     * What happens to it, up to its end, each event once and in order; a connection that breaks is taken up again where it was.
     * @throws {AtelierError}
     */
    events(id: string, options?: RequestOptions): AsyncGenerator<SchemaFineTuningEvent, void, undefined>
    /** Of every step so far, or of every so many. @throws {AtelierError} */
    metrics(
      id: string,
      filters?: Query<'listFineTuningMetrics'>,
      options?: RequestOptions,
    ): AsyncGenerator<SchemaFineTuningMetric, void, undefined>
    /** @throws {AtelierError} */
    samples(id: string, options?: RequestOptions): AsyncGenerator<SchemaFineTuningSample, void, undefined>
    /** A WebP picture. @throws {AtelierError} */
    sampleContent(id: string, sampleId: string, options?: RequestOptions): Promise<Uint8Array<ArrayBuffer>>
    /** The job once it has ended, in whichever way, or was paused. @throws {AtelierError} */
    waitFor(id: string, options?: RequestOptions): Promise<SchemaFineTuningJob>
  }
  readonly checkpoints: {
    /** Newest first. @throws {AtelierError} */
    list(jobId: string, options?: RequestOptions): AsyncGenerator<SchemaFineTuningCheckpoint, void, undefined>
    /** A LoRA's weights as safetensors. @throws {AtelierError} */
    adapter(jobId: string, checkpointId: string, options?: RequestOptions): Promise<Uint8Array<ArrayBuffer>>
    /** Serves it as a model; resolves when it does. @throws {AtelierError} */
    deploy(
      jobId: string,
      checkpointId: string,
      request?: SchemaDeployCheckpointRequest,
      options?: KeyedOptions,
    ): Promise<SchemaDeployment>
  }
}

export interface DeploymentCalls {
  /** Newest first. @throws {AtelierError} */
  list(
    filters?: Query<'listDeployments'>,
    options?: RequestOptions,
  ): AsyncGenerator<SchemaDeployment, void, undefined>
  /** @throws {AtelierError} */
  retrieve(id: string, options?: RequestOptions): Promise<SchemaDeployment>
  /** One that does not serve. @throws {AtelierError} */
  delete(id: string, options?: RequestOptions): Promise<void>
}

export function createFineTuning(raw: Client<paths, 'application/json'>, patience: Patience): FineTuning {
  const post = async (
    body: SchemaCreateFineTuningJobRequest,
    { signal, idempotencyKey }: KeyedOptions,
  ): Promise<SchemaFineTuningJob | SchemaFineTuningPlan> => {
    const init = { body, params: { header: withKey(idempotencyKey) }, ...withSignal(signal) }
    return unwrap<SchemaFineTuningJob | SchemaFineTuningPlan>(raw.POST('/v1/fine_tuning/jobs', init), signal)
  }
  const ofJob = (id: string, { signal }: RequestOptions) => ({
    params: { path: { id } },
    ...withSignal(signal),
  })
  const jobs: FineTuning['jobs'] = {
    async plan(request, options = {}) {
      const answer = await post({ ...request, dry_run: true }, options)
      if (answer.object === 'fine_tuning.plan') return answer
      throw unexpected('a plan', answer.object)
    },
    async create(request, options = {}) {
      const answer = await post(request, options)
      if (answer.object === 'fine_tuning.job') return answer
      throw unexpected('a job', answer.object)
    },
    retrieve(id, options = {}) {
      return unwrap(raw.GET('/v1/fine_tuning/jobs/{id}', ofJob(id, options)), options.signal)
    },
    list(filters = {}, { signal } = {}) {
      return pages((after) => {
        const init = { params: { query: { ...filters, ...after } }, ...withSignal(signal) }
        return unwrap(raw.GET('/v1/fine_tuning/jobs', init), signal)
      })
    },
    cancel(id, options = {}) {
      return unwrap(raw.POST('/v1/fine_tuning/jobs/{id}/cancel', ofJob(id, options)), options.signal)
    },
    pause(id, options = {}) {
      return unwrap(raw.POST('/v1/fine_tuning/jobs/{id}/pause', ofJob(id, options)), options.signal)
    },
    resume(id, options = {}) {
      return unwrap(raw.POST('/v1/fine_tuning/jobs/{id}/resume', ofJob(id, options)), options.signal)
    },
    async delete(id, options = {}) {
      await expectSuccess(raw.DELETE('/v1/fine_tuning/jobs/{id}', ofJob(id, options)), options.signal)
    },
    events(id, { signal } = {}) {
      const connect = (lastEventId: number | undefined) => {
        const header = lastEventId === undefined ? {} : { 'Last-Event-ID': String(lastEventId) }
        const init = {
          params: { path: { id }, header },
          headers: { accept: 'text/event-stream' },
          parseAs: 'stream' as const,
          ...withSignal(signal),
        }
        return expectSuccess(raw.GET('/v1/fine_tuning/jobs/{id}/events', init), signal)
      }
      // An event's id ends in its number.
      const idOf = (event: SchemaFineTuningEvent) => Number(event.id.slice(event.id.lastIndexOf('_') + 1))
      return follow({ connect, after: undefined, idOf, isFinal, signal }, patience)
    },
    async *metrics(id, filters = {}, { signal } = {}) {
      let after = filters.after ?? 0
      for (;;) {
        const init = { params: { path: { id }, query: { ...filters, after } }, ...withSignal(signal) }
        const page = await unwrap(raw.GET('/v1/fine_tuning/jobs/{id}/metrics', init), signal)
        yield* page.data
        const last = page.data.at(-1)
        if (!page.has_more || !last) return
        after = last.step
      }
    },
    samples(id, { signal } = {}) {
      return pages((after) => {
        const init = { params: { path: { id }, query: after }, ...withSignal(signal) }
        return unwrap(raw.GET('/v1/fine_tuning/jobs/{id}/samples', init), signal)
      })
    },
    async sampleContent(id, sample, { signal } = {}) {
      const init = {
        params: { path: { id, sample } },
        parseAs: 'arrayBuffer' as const,
        ...withSignal(signal),
      }
      const answer = raw.GET('/v1/fine_tuning/jobs/{id}/samples/{sample}/content', init)
      return new Uint8Array(await unwrap<ArrayBuffer>(answer, signal))
    },
    async waitFor(id, options = {}) {
      for await (const event of jobs.events(id, options)) {
        if (event.event !== 'paused' && !isFinal(event)) continue
        const job = await jobs.retrieve(id, options)
        // It may have been resumed since.
        if (event.event !== 'paused' || job.status === 'paused') return job
      }
      return jobs.retrieve(id, options)
    },
  }
  return {
    jobs,
    checkpoints: {
      list(id, { signal } = {}) {
        return pages((after) => {
          const init = { params: { path: { id }, query: after }, ...withSignal(signal) }
          return unwrap(raw.GET('/v1/fine_tuning/jobs/{id}/checkpoints', init), signal)
        })
      },
      async adapter(id, checkpoint, { signal } = {}) {
        const init = {
          params: { path: { id, checkpoint } },
          parseAs: 'arrayBuffer' as const,
          ...withSignal(signal),
        }
        const path = '/v1/fine_tuning/jobs/{id}/checkpoints/{checkpoint}/adapter'
        return new Uint8Array(await unwrap<ArrayBuffer>(raw.GET(path, init), signal))
      },
      deploy(id, checkpoint, body = {}, { signal, idempotencyKey } = {}) {
        const params = { path: { id, checkpoint }, header: withKey(idempotencyKey) }
        const path = '/v1/fine_tuning/jobs/{id}/checkpoints/{checkpoint}/deploy'
        return unwrap(raw.POST(path, { body, params, ...withSignal(signal) }), signal)
      },
    },
  }
}

export function createDeployments(raw: Client<paths, 'application/json'>): DeploymentCalls {
  return {
    list(filters = {}, { signal } = {}) {
      return pages((after) => {
        const init = { params: { query: { ...filters, ...after } }, ...withSignal(signal) }
        return unwrap(raw.GET('/v1/deployments', init), signal)
      })
    },
    retrieve(id, { signal } = {}) {
      const init = { params: { path: { id } }, ...withSignal(signal) }
      return unwrap(raw.GET('/v1/deployments/{id}', init), signal)
    },
    async delete(id, { signal } = {}) {
      const init = { params: { path: { id } }, ...withSignal(signal) }
      await expectSuccess(raw.DELETE('/v1/deployments/{id}', init), signal)
    },
  }
}

async function* pages<T extends { readonly id: string }>(
  fetchPage: (after: {
    after?: string
  }) => Promise<{ readonly data: readonly T[]; readonly has_more: boolean }>,
): AsyncGenerator<T, void, undefined> {
  let after: { after?: string } = {}
  for (;;) {
    const { data, has_more } = await fetchPage(after)
    yield* data
    const last = data.at(-1)
    if (!has_more || !last) return
    after = { after: last.id }
  }
}

const isFinal = ({ event }: SchemaFineTuningEvent): boolean =>
  event === 'succeeded' || event === 'failed' || event === 'cancelled'

const unexpected = (expected: string, got: string): AtelierError =>
  new AtelierError(`expected ${expected}, got ${got}`, { code: 'unexpected_response' })
