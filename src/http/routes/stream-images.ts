/** `POST /v1/images/generations` with `stream`: OpenAI's events, out of those of the generation. */
import { buffer } from 'node:stream/consumers'
import type { PreviewEvent } from '../../generation/events.ts'
import { sizeText } from '../../generation/images.ts'
import type {
  SchemaCompletedImageEvent,
  SchemaGenerateImagesRequest,
  SchemaPartialImageEvent,
  SchemaQuality,
} from '../../sdk/schema.ts'
import { withDefaults, type Contract, type ContractRequest } from '../contract.ts'
import { callerOf } from '../caller.ts'
import { ApiError, asApiError } from '../errors.ts'
import type { ServerSentEvent } from '../event-stream.ts'
import { asFailure, asUnixSeconds, generationNotFound, type RouteDependencies } from './dependencies.ts'
import { describeImageReceipt, describeOrigin } from './describe-generation.ts'

type Request = ContractRequest<'generateImages'>

/**
 * @returns how many partial pictures to stream; undefined when the answer is not to be streamed
 * @throws {ApiError} for what streams cannot give: several pictures, and links
 */
export function partialImagesOf(body: SchemaGenerateImagesRequest, contract: Contract): number | undefined {
  const own = withDefaults(contract, 'GenerateImagesRequest', body, ['stream', 'partial_images'])
  const { n } = withDefaults(contract, 'PictureRequest', body, ['n'])
  if (!own.stream) {
    if (own.partial_images === 0) return undefined
    throw invalid('partial_images', `expected 0 without stream, got ${own.partial_images}`)
  }
  if (n !== 1) throw invalid('n', `expected 1 with stream, got ${n}`)
  if (body.response_format === 'url')
    throw invalid('response_format', 'expected "b64_json" with stream, got "url"')
  return own.partial_images
}

function invalid(param: string, message: string): ApiError {
  return new ApiError('invalid_value', `${param}: ${message}`, { param })
}

/** Ends after the completed picture or an error, or when the client is gone. */
export async function* streamImages(
  id: string,
  request: Request,
  gone: AbortSignal,
  dependencies: RouteDependencies,
): AsyncGenerator<ServerSentEvent> {
  const { generation: service, lifecycle } = dependencies
  const signal = AbortSignal.any([gone, lifecycle.drained])
  try {
    let partialImages = 0
    let lastStep = 0
    for await (const event of service.of(callerOf(request)).events(id, { signal })) {
      switch (event.type) {
        case 'preview':
          // After a restart of the server the early ones come again.
          if (event.step <= lastStep) break
          lastStep = event.step
          yield named(await describePartial(event, partialImages++, request, dependencies))
          break
        case 'succeeded':
        case 'failed':
        case 'cancelled':
          yield named(await describeCompleted(id, event.at, request, dependencies))
          break
        case 'queued':
        case 'started':
        case 'step':
      }
    }
  } catch (error) {
    if (gone.aborted) return
    const message = 'The server is shutting down; the generation goes on after its restart'
    const refusal = lifecycle.drained.aborted ? new ApiError('shutting_down', message) : asApiError(error)
    if (refusal.code === 'internal_error')
      request.log.error({ err: error, generationId: id }, 'stream failed')
    yield { event: 'error', data: { type: 'error', ...refusal.toBody(request.id) } }
  }
}

const named = (data: SchemaPartialImageEvent | SchemaCompletedImageEvent): ServerSentEvent => ({
  event: data.type,
  data,
})

async function describePartial(
  { blobKey, format, at, ...size }: PreviewEvent,
  index: number,
  { body }: Request,
  { generation: service }: RouteDependencies,
): Promise<SchemaPartialImageEvent> {
  return {
    type: 'image_generation.partial_image',
    b64_json: (await buffer(await service.openBlob(blobKey))).toString('base64'),
    partial_image_index: index,
    size: sizeText(size),
    quality: qualityOf(body),
    background: 'opaque',
    output_format: format,
    created_at: asUnixSeconds(at),
  }
}

/** @throws {ApiError} when the generation did not succeed */
async function describeCompleted(
  id: string,
  at: Date,
  request: Request,
  { generation: service, config }: RouteDependencies,
): Promise<SchemaCompletedImageEvent> {
  const { body, log } = request
  const generation = await service.of(callerOf(request)).get(id)
  if (!generation) throw generationNotFound(id)
  if (generation.state === 'failed') throw asFailure(generation, log)
  const [image] = generation.state === 'succeeded' ? generation.images : []
  if (!image) throw new ApiError('generation_cancelled', 'The generation was cancelled before it was done')
  return {
    type: 'image_generation.completed',
    b64_json: (await buffer(await service.openBlob(image.blobKey))).toString('base64'),
    size: sizeText(image),
    ...describeOrigin(image),
    quality: qualityOf(body),
    background: 'opaque',
    output_format: image.format,
    created_at: asUnixSeconds(at),
    usage: {
      input_tokens: 0,
      input_tokens_details: { image_tokens: 0, text_tokens: 0 },
      output_tokens: 0,
      total_tokens: 0,
    },
    id: image.id,
    generation_id: id,
    model: image.parameters.model,
    seed: image.seed,
    seed_index: image.seedIndex,
    prompt_truncated: image.promptTruncated,
    receipt: describeImageReceipt(image, config),
  }
}

/** The older models' words have no place in the newer models' events. */
function qualityOf({ quality }: Request['body']): SchemaQuality {
  return quality == null || quality === 'standard' || quality === 'hd' ? 'auto' : quality
}
