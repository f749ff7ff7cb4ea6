/** What happens to a job and comes of it on the way: its events, metrics, samples, checkpoints and adapters. */
import type { FineTuningEvent } from '../../fine-tuning/events.ts'
import { csvHeader, csvRow } from '../../fine-tuning/metrics-csv.ts'
import { isFinal } from '../../fine-tuning/states.ts'
import { accepts } from '../accept.ts'
import type { Handler } from '../contract.ts'
import { callerOf, mayLookAt } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { sendEvents, type ServerSentEvent } from '../event-stream.ts'
import { clientGone } from '../lifecycle.ts'
import { describeValue } from '../validation.ts'
import type { RouteDependencies } from './dependencies.ts'
import { describeCheckpoint, describeEvent, describeMetrics, describeSample } from './describe-fine-tuning.ts'
import { findJob } from './fine-tuning-jobs.ts'

/** Where JSON would do, it is what a client gets. */
const wants = (accept: string | undefined, type: string): boolean =>
  !accepts(accept, 'application/json') && accepts(accept, type)

export function listFineTuningEvents(dependencies: RouteDependencies): Handler<'listFineTuningEvents'> {
  const { fineTuning: service, lifecycle, keepAliveMs } = dependencies
  return async (request, reply) => {
    const { id } = request.params
    const jobs = service.of(callerOf(request))
    const job = await findJob(id, request, dependencies)
    if (!wants(request.headers.accept, 'text/event-stream')) {
      const { after, limit } = request.query
      const page = await jobs.events(id, {
        before: after === undefined ? undefined : sequenceOf(after),
        limit,
      })
      return {
        object: 'list',
        data: page.data.map((event) => describeEvent(id, event)),
        has_more: page.hasMore,
      }
    }
    if (request.method === 'HEAD') return reply.type('text/event-stream').send()
    // The client comes again with Last-Event-ID, so that nothing is lost when a server that shuts down ends the stream.
    const signal = AbortSignal.any([clientGone(reply), lifecycle.closing])
    const lastEventId = request.headers['last-event-id']
    const after = lastEventId === undefined ? undefined : Number(lastEventId)
    if (after !== undefined && isFinal(job.state)) {
      const [last] = (await jobs.events(id, { limit: 1 })).data
      // Clients come again until they are told that there is nothing more.
      if (last === undefined || last.sequence <= after) return reply.code(204).send()
    }
    return sendEvents(reply, describeAll(id, jobs.streamEvents(id, { after, signal }), signal), keepAliveMs)
  }
}

function sequenceOf(eventId: string): number {
  const sequence = /_(\d{1,9})$/.exec(eventId)?.[1]
  if (sequence !== undefined) return Number(sequence)
  const message = `after: expected the id of an event, got ${describeValue(eventId)}`
  throw new ApiError('invalid_value', message, { param: 'after' })
}

async function* describeAll(
  jobId: string,
  events: AsyncIterable<FineTuningEvent>,
  signal: AbortSignal,
): AsyncGenerator<ServerSentEvent> {
  try {
    for await (const event of events) {
      yield { event: event.details.type, id: event.sequence, data: describeEvent(jobId, event) }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

export function listFineTuningMetrics({
  fineTuning: service,
}: RouteDependencies): Handler<'listFineTuningMetrics'> {
  return async (request, reply) => {
    const { data, hasMore } = await service.of(callerOf(request)).metrics(request.params.id, request.query)
    if (wants(request.headers.accept, 'text/csv'))
      return reply.type('text/csv; charset=utf-8').send([csvHeader, ...data.map(csvRow)].join(''))
    return { object: 'list', data: data.map(describeMetrics), has_more: hasMore }
  }
}

export function listFineTuningSamples({
  fineTuning: service,
  links,
}: RouteDependencies): Handler<'listFineTuningSamples'> {
  return async (request) => {
    const { id } = request.params
    const { data, hasMore } = await service.of(callerOf(request)).samples(id, request.query)
    const url = (sample: string) =>
      links.signed(request, `/v1/fine_tuning/jobs/${id}/samples/${sample}/content`)
    return {
      object: 'list',
      data: data.map((sample) => describeSample(sample, url(sample.id))),
      has_more: hasMore,
    }
  }
}

export function getFineTuningSampleContent({
  fineTuning: service,
}: RouteDependencies): Handler<'getFineTuningSampleContent'> {
  return async (request, reply) => {
    const { id, sample } = request.params
    const picture = await service.pictures(mayLookAt(request)).openSample(id, sample)
    reply.headers({
      'content-type': 'image/webp',
      // A step that is taken again after a crash makes the same picture.
      'cache-control': 'private, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
    })
    if (request.method !== 'HEAD') return reply.send(picture)
    picture.destroy()
    return reply.send()
  }
}

export function listFineTuningCheckpoints(
  dependencies: RouteDependencies,
): Handler<'listFineTuningCheckpoints'> {
  const { fineTuning: service } = dependencies
  return async (request) => {
    const { id } = request.params
    const { data, hasMore } = await service.of(callerOf(request)).checkpoints(id, request.query)
    const live = await service.deployments.allLive()
    const nameOf = (checkpointId: string) =>
      live.find((deployment) => deployment.checkpointId === checkpointId)?.name
    return {
      object: 'list',
      data: data.map((checkpoint) => describeCheckpoint(checkpoint, nameOf(checkpoint.id))),
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: hasMore,
    }
  }
}

export function getFineTuningAdapter({
  fineTuning: service,
}: RouteDependencies): Handler<'getFineTuningAdapter'> {
  return async (request, reply) => {
    const { id, checkpoint } = request.params
    const { bytes, sizeBytes } = await service.of(callerOf(request)).openAdapter(id, checkpoint)
    reply.headers({
      'content-type': 'application/octet-stream',
      'content-length': sizeBytes,
      'content-disposition': `attachment; filename="${checkpoint}.safetensors"`,
      'x-content-type-options': 'nosniff',
    })
    if (request.method !== 'HEAD') return reply.send(bytes)
    bytes.destroy()
    return reply.send()
  }
}
