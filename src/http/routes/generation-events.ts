/** `GET /v1/generations/{id}/events`: what happens to a generation, as server-sent events; and the previews that they name. */
import type { GenerationEvent } from '../../generation/events.ts'
import { isSettled } from '../../generation/generation.ts'
import type { SchemaGenerationEvent } from '../../sdk/schema.ts'
import { accepts } from '../accept.ts'
import type { ContractRequest, Handler } from '../contract.ts'
import { callerOf, mayLookAt } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { sendEvents, type ServerSentEvent } from '../event-stream.ts'
import { clientGone } from '../lifecycle.ts'
import { describeValue } from '../validation.ts'
import { generationNotFound, type RouteDependencies } from './dependencies.ts'
import { describeGeneration } from './describe-generation.ts'

const mediaType = 'text/event-stream'

type Request = ContractRequest<'streamGenerationEvents'>

export function streamGenerationEvents(dependencies: RouteDependencies): Handler<'streamGenerationEvents'> {
  const { generation: service, lifecycle, keepAliveMs } = dependencies
  return async (request, reply) => {
    const { id } = request.params
    if (!accepts(request.headers.accept, mediaType)) {
      const message = `Accept: expected room for ${mediaType}, got ${describeValue(request.headers.accept)}`
      throw new ApiError('not_acceptable', message, { param: 'Accept' })
    }
    const mine = service.of(callerOf(request))
    const generation = await mine.get(id)
    if (!generation) throw generationNotFound(id)
    if (request.method === 'HEAD') return reply.type(mediaType).send()

    // The client comes again with Last-Event-ID, so that nothing is lost when a server that shuts down waits no longer.
    const signal = AbortSignal.any([clientGone(reply), lifecycle.drained])
    const lastEventId = request.headers['last-event-id']
    const afterEventId = lastEventId === undefined ? undefined : Number(lastEventId)
    const coming = mine.events(id, { afterEventId, signal })
    if (!isSettled(generation))
      return sendEvents(reply, describeAll(coming, request, signal, dependencies), keepAliveMs)

    const rest = await Array.fromAsync(coming)
    if (rest.length === 0) return reply.code(204).send()
    return sendEvents(reply, describeAll(rest, request, signal, dependencies), keepAliveMs)
  }
}

async function* describeAll(
  events: AsyncIterable<GenerationEvent> | Iterable<GenerationEvent>,
  request: Request,
  signal: AbortSignal,
  dependencies: RouteDependencies,
): AsyncGenerator<ServerSentEvent> {
  try {
    for await (const event of events) {
      yield { event: event.type, id: event.id, data: await describe(event, request, dependencies) }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

async function describe(
  event: GenerationEvent,
  request: Request,
  dependencies: RouteDependencies,
): Promise<SchemaGenerationEvent> {
  const { id: generationId } = request.params
  const common = { id: event.id, generation_id: generationId, at: event.at.toISOString() }
  switch (event.type) {
    case 'queued':
      return { ...common, type: event.type, queue_position: event.position }
    case 'started':
      return { ...common, type: event.type }
    case 'step': {
      const { type, image, step, steps, etaSeconds: eta_seconds, batchRows: batch_rows } = event
      return { ...common, type, image, step, steps, eta_seconds, batch_rows }
    }
    case 'preview': {
      const { type, image, step, steps, width, height, format: output_format } = event
      const url = await dependencies.links.preview(request, generationId, event)
      return { ...common, type, image, step, steps, url, width, height, output_format }
    }
    case 'succeeded':
    case 'failed':
    case 'cancelled': {
      const generation = await dependencies.generation.of(callerOf(request)).get(generationId)
      if (!generation) throw generationNotFound(generationId)
      const described = await describeGeneration(generation, request, dependencies)
      return { ...common, type: event.type, generation: described }
    }
  }
}

export function getGenerationPreview({
  generation: service,
}: RouteDependencies): Handler<'getGenerationPreview'> {
  return async (request, reply) => {
    const { id, number } = request.params
    const preview = await service.pictures(mayLookAt(request)).preview(id, Number(number))
    if (!preview) {
      const message = `number: expected the id of a preview event, got ${describeValue(number)}; there is no such preview, or no longer`
      throw new ApiError('preview_not_found', message, { param: 'number' })
    }
    reply.headers({
      'content-type': 'image/webp',
      'content-length': preview.sizeBytes,
      'cache-control': 'private, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
    })
    return request.method === 'HEAD' ? reply.send() : reply.send(await service.openBlob(preview.blobKey))
  }
}
