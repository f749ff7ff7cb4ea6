/** `GET /v1/images/{id}` and its content: what is known of a picture, and its bytes. */
import { Readable } from 'node:stream'
import type { ImageRecord } from '../../generation/generation.ts'
import { isNotModified, readRange } from '../byte-range.ts'
import type { ContractRequest, Handler } from '../contract.ts'
import { mayLookAt } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { describeValue } from '../validation.ts'
import { asUnixSeconds, roundMs, type RouteDependencies } from './dependencies.ts'
import { describeOrigin, describeImageReceipt, describeParameters } from './describe-generation.ts'

async function findImage(
  request: ContractRequest<'getImage' | 'getImageContent'>,
  { generation }: RouteDependencies,
): Promise<ImageRecord> {
  const { id } = request.params
  const image = await generation.pictures(mayLookAt(request)).image(id)
  if (!image)
    throw new ApiError(
      'image_not_found',
      `id: expected a picture's id, got ${describeValue(id)}; there is no such picture`,
      { param: 'id' },
    )
  return image
}

export function getImage(dependencies: RouteDependencies): Handler<'getImage'> {
  const { links, config } = dependencies
  return async (request) => {
    const image = await findImage(request, dependencies)
    const { parameters, timings } = image
    return {
      id: image.id,
      object: 'image',
      created: asUnixSeconds(image.createdAt),
      generation_id: image.generationId,
      index: image.index,
      url: await links.image(request, image),
      width: image.width,
      height: image.height,
      ...describeOrigin(image),
      output_format: image.format,
      size_bytes: image.sizeBytes,
      sha256: image.sha256,
      model: parameters.model,
      model_version: image.modelVersion,
      prompt_truncated: image.promptTruncated,
      timings: {
        wait_ms: roundMs(timings.waitMs),
        encode_ms: roundMs(timings.encodeMs),
        denoise_ms: roundMs(timings.denoiseMs),
        decode_ms: roundMs(timings.decodeMs),
        compute_ms: roundMs(timings.computeMs),
      },
      receipt: describeImageReceipt(image, config),
      parameters: describeParameters(parameters, { n: 1, seedIndex: image.seedIndex }),
    }
  }
}

export function getImageContent(dependencies: RouteDependencies): Handler<'getImageContent'> {
  const { generation: service } = dependencies
  return async (request, reply) => {
    const { id, sha256, sizeBytes, format, blobKey } = await findImage(request, dependencies)
    const etag = `"${sha256}"`
    // Private: the address is what lets one see the picture, so it belongs in no shared cache.
    reply.headers({ etag, 'cache-control': 'private, max-age=31536000, immutable', 'accept-ranges': 'bytes' })
    if (isNotModified(request.headers['if-none-match'], etag)) return reply.code(304).send()

    const isHead = request.method === 'HEAD'
    // Range is defined for GET alone (RFC 9110, section 14.2).
    const range = isHead ? ({ kind: 'whole' } as const) : readRange(request.headers, etag, sizeBytes)
    if (range.kind === 'unsatisfiable') {
      reply.removeHeader('etag').removeHeader('cache-control')
      const message = `Range: expected bytes within the picture's ${sizeBytes}, got ${describeValue(request.headers.range)}`
      throw new ApiError('range_not_satisfiable', message, {
        param: 'Range',
        headers: { 'content-range': `bytes */${sizeBytes}` },
      })
    }
    const { start, end } = range.kind === 'part' ? range : { start: 0, end: sizeBytes - 1 }
    const part = range.kind === 'part' ? { start, end } : undefined
    const bytes = isHead ? Readable.from([]) : await service.openBlob(blobKey, part)
    if (range.kind === 'part') reply.code(206).header('content-range', `bytes ${start}-${end}/${sizeBytes}`)
    return reply
      .headers({
        'content-type': `image/${format}`,
        'content-length': end - start + 1,
        'content-disposition': `inline; filename="${id}.${format}"`,
        'x-content-type-options': 'nosniff',
      })
      .send(bytes)
  }
}
