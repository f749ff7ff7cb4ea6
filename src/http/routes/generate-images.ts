/** `POST /v1/images/generations`: accept, wait until the pictures are stored, answer with links or bytes; or stream. */
import { buffer } from 'node:stream/consumers'
import type { FastifyReply } from 'fastify'
import type { ImageRecord, SettledGeneration, SucceededGeneration } from '../../generation/generation.ts'
import { sizeText } from '../../generation/images.ts'
import type { SchemaGeneratedImage, SchemaGeneratedImages } from '../../sdk/schema.ts'
import { withDefaults, type ContractRequest, type Handler } from '../contract.ts'
import { callerOf } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { sendEvents } from '../event-stream.ts'
import { clientGone } from '../lifecycle.ts'
import { readParameters } from '../limits.ts'
import {
  asFailure,
  asUnixSeconds,
  idempotencyKeyOf,
  promptsToLog,
  type RouteDependencies,
} from './dependencies.ts'
import { describeOrigin, describeReceipt } from './describe-generation.ts'
import { partialImagesOf, streamImages } from './stream-images.ts'

type Request = ContractRequest<'generateImages'>
type ResponseFormat = 'url' | 'b64_json'

export function generateImages(dependencies: RouteDependencies): Handler<'generateImages'> {
  const { generation: service, config, contract, keepAliveMs } = dependencies
  return async (request, reply) => {
    const { body } = request
    const parameters = readParameters(body, { contract, config, models: service.models })
    const partialImages = partialImagesOf(body, contract)
    const idempotencyKey = idempotencyKeyOf(request)
    const gone = clientGone(reply)
    const { generation, replayed } = await service.of(callerOf(request)).create(parameters, {
      requestId: request.id,
      traceparent: dependencies.traceparentOf(request),
      user: body.safety_identifier || body.user || undefined,
      idempotencyKey,
      idempotencyBody: body,
      idempotencyOperation: 'generateImages',
      previews: partialImages === undefined ? undefined : { partialImages },
    })
    const { id } = generation
    request.log.info(
      { generationId: id, replayed, ...promptsToLog(parameters, config) },
      'generation accepted',
    )
    if (replayed) reply.header('idempotency-replayed', 'true')
    if (idempotencyKey === undefined) cancelWhenGone(id, request, gone, dependencies)

    if (partialImages !== undefined)
      return sendEvents(reply, streamImages(id, request, gone, dependencies), keepAliveMs)
    const settled = await waitFor(id, request, gone, dependencies)
    return answer(settled, request, reply, dependencies)
  }
}

/**
 * A generation that only this request can reach is cancelled when its client leaves; one with a key is finished, for the client to
 * ask again. A server that shuts down cancels nothing, whoever leaves.
 */
function cancelWhenGone(
  id: string,
  request: Request,
  gone: AbortSignal,
  { generation: service, lifecycle }: RouteDependencies,
): void {
  const cancel = async () => {
    if (lifecycle.isClosing) return
    try {
      await service.of(callerOf(request)).cancel(id)
      request.log.info({ generationId: id }, 'client left; generation cancelled')
    } catch (error) {
      request.log.error({ err: error, generationId: id }, 'client left; cannot cancel its generation')
    }
  }
  if (gone.aborted) void cancel()
  else gone.addEventListener('abort', () => void cancel(), { once: true })
}

async function waitFor(
  id: string,
  request: Request,
  gone: AbortSignal,
  { generation: service, lifecycle }: RouteDependencies,
): Promise<SettledGeneration> {
  try {
    return await service
      .of(callerOf(request))
      .settled(id, { signal: AbortSignal.any([gone, lifecycle.drained]) })
  } catch (error) {
    if (lifecycle.isClosing) {
      const message = 'The server is shutting down; the generation goes on after its restart'
      throw new ApiError('shutting_down', message, { headers: { 'retry-after': '5' }, cause: error })
    }
    if (!gone.aborted) throw error
    const message = 'The client left before the pictures were ready'
    throw new ApiError('generation_cancelled', message, { cause: error })
  }
}

async function answer(
  settled: SettledGeneration,
  request: Request,
  reply: FastifyReply,
  dependencies: RouteDependencies,
): Promise<SchemaGeneratedImages> {
  switch (settled.state) {
    case 'succeeded':
      return describe(settled, request, dependencies)
    case 'failed':
      throw asFailure(settled, reply.log)
    case 'cancelled':
      throw new ApiError('generation_cancelled', 'The generation was cancelled before it was done')
  }
}

async function describe(
  { id, createdAt, parameters, images, receipt }: SucceededGeneration,
  request: Request,
  { generation: service, links, contract, config }: RouteDependencies,
): Promise<SchemaGeneratedImages> {
  const [first] = images
  if (!first) throw new Error(`generation ${id} has succeeded and has no pictures`)
  const defaulted = withDefaults(contract, 'GenerateImagesRequest', request.body, ['response_format'])
  const format: ResponseFormat = defaulted.response_format
  const describeImage = async (image: ImageRecord): Promise<SchemaGeneratedImage> => {
    const common = { id: image.id, seed: image.seed, seed_index: image.seedIndex }
    switch (format) {
      case 'url':
        return { ...common, url: await links.image(request, image) }
      case 'b64_json':
        return {
          ...common,
          b64_json: (await buffer(await service.openBlob(image.blobKey))).toString('base64'),
        }
    }
  }
  return {
    id,
    created: asUnixSeconds(createdAt),
    model: parameters.model,
    seed: parameters.seed,
    size: sizeText(parameters),
    ...describeOrigin(first),
    output_format: parameters.format,
    background: 'opaque',
    prompt_truncated: images.some((image) => image.promptTruncated),
    receipt: receipt ? describeReceipt(receipt, config) : null,
    data: await Promise.all(images.map(describeImage)),
  }
}
