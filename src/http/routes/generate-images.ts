/** `POST /v1/images/generations`: accept, wait until the pictures are stored, answer with links or bytes. */
import { buffer } from 'node:stream/consumers'
import type { FastifyReply } from 'fastify'
import { GenerationError } from '../../generation/errors.ts'
import type {
  FailedGeneration,
  ImageRecord,
  SettledGeneration,
  SucceededGeneration,
} from '../../generation/generation.ts'
import type { SchemaGeneratedImage, SchemaGeneratedImages } from '../../sdk/schema.ts'
import { withDefaults, type ContractRequest, type Handler } from '../contract.ts'
import { ApiError } from '../errors.ts'
import { clientGone } from '../lifecycle.ts'
import { readParameters } from '../limits.ts'
import { asUnixSeconds, imageUrl, type RouteDependencies } from './dependencies.ts'

type Request = ContractRequest<'generateImages'>
type ResponseFormat = 'url' | 'b64_json'

export function generateImages(dependencies: RouteDependencies): Handler<'generateImages'> {
  const { generation: service, config, contract } = dependencies
  return async (request, reply) => {
    const { body } = request
    const idempotencyKey = headerOf(request, 'idempotency-key')
    const parameters = readParameters(body, { contract, config, models: service.models })
    const { response_format: format } = withDefaults(contract, 'GenerateImagesRequest', body, [
      'response_format',
    ])
    const user = body.safety_identifier || body.user || undefined
    const gone = clientGone(reply)

    const { generation, replayed } = await service
      .create(parameters, { requestId: request.id, user, idempotencyKey, idempotencyBody: body })
      .catch((error: unknown) => {
        throw error instanceof GenerationError ? asRefusal(error) : error
      })
    request.log.info({ generationId: generation.id, replayed }, 'generation accepted')
    if (replayed) reply.header('idempotency-replayed', 'true')

    const settled = await waitFor(generation.id, request, gone, idempotencyKey === undefined, dependencies)
    return answer(settled, format, request, reply, dependencies)
  }
}

function headerOf(request: Request, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}

/**
 * Waits until the generation is final. When the client leaves first, a generation that only this request can reach is
 * cancelled; one with a key is finished, for the client to ask again. A server that shuts down cancels nothing, whoever leaves.
 */
async function waitFor(
  id: string,
  request: Request,
  gone: AbortSignal,
  cancelWhenGone: boolean,
  { generation: service, lifecycle }: RouteDependencies,
): Promise<SettledGeneration> {
  try {
    return await service.settled(id, { signal: AbortSignal.any([gone, lifecycle.drained]) })
  } catch (error) {
    if (lifecycle.isClosing) {
      const message = 'The server is shutting down; the generation goes on after its restart'
      throw new ApiError('shutting_down', message, { headers: { 'retry-after': '5' }, cause: error })
    }
    if (!gone.aborted) throw error
    if (cancelWhenGone) {
      await service.cancel(id)
      request.log.info({ generationId: id }, 'client left; generation cancelled')
    }
    throw new ApiError('generation_cancelled', 'The client left before the pictures were ready', {
      cause: error,
    })
  }
}

async function answer(
  settled: SettledGeneration,
  format: ResponseFormat,
  request: Request,
  reply: FastifyReply,
  dependencies: RouteDependencies,
): Promise<SchemaGeneratedImages> {
  switch (settled.state) {
    case 'succeeded':
      return describe(settled, format, request, dependencies)
    case 'failed':
      throw asFailure(settled, reply)
    case 'cancelled':
      throw new ApiError('generation_cancelled', 'The generation was cancelled before it was done')
  }
}

async function describe(
  { id, createdAt, parameters, images }: SucceededGeneration,
  format: ResponseFormat,
  request: Request,
  { generation: service, config }: RouteDependencies,
): Promise<SchemaGeneratedImages> {
  const describeImage = async (image: ImageRecord): Promise<SchemaGeneratedImage> => {
    const common = { id: image.id, seed: image.seed, seed_index: image.seedIndex }
    switch (format) {
      case 'url':
        return { ...common, url: imageUrl(request, config, image.id) }
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
    size: `${parameters.width}x${parameters.height}`,
    output_format: parameters.format,
    background: 'opaque',
    prompt_truncated: images.some((image) => image.promptTruncated),
    data: await Promise.all(images.map(describeImage)),
  }
}

function asRefusal(error: GenerationError): ApiError {
  switch (error.code) {
    case 'queue_full':
      return new ApiError('queue_full', error.message, {
        headers: { 'retry-after': String(error.retryAfterSeconds ?? 1) },
      })
    case 'idempotency_conflict':
      return new ApiError('idempotency_conflict', error.message, { param: 'Idempotency-Key' })
    case 'unknown_model':
      return new ApiError('model_not_found', error.message, { param: 'model' })
    case 'invalid_text':
      return new ApiError(
        'invalid_value',
        error.message,
        error.parameter === undefined ? {} : { param: error.parameter },
      )
  }
}

/** The device's own words are for the log; the client can only try again. */
function asFailure({ id, error }: FailedGeneration, reply: FastifyReply): ApiError {
  reply.log.error({ generationId: id, failure: error }, 'generation failed')
  return new ApiError(
    'generation_failed',
    'The picture could not be made; the log has the details under the request id',
  )
}
