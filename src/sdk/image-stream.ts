/** Pictures that are shown while they are made: OpenAI's event stream, as our service speaks it. */
import { AtelierError } from './errors.ts'
import type { SchemaCompletedImageEvent, SchemaError, SchemaPartialImageEvent } from './schema.ts'
import { readMessages } from './server-sent-events.ts'

export type ImageStreamEvent = SchemaPartialImageEvent | SchemaCompletedImageEvent

/**
 * Ends after the completed picture.
 * @throws {AtelierError} what the service says went wrong, or `connection_failed` when the stream ends before
 */
export async function* readImageStream(
  { body, headers }: Response,
  signal: AbortSignal | undefined,
): AsyncGenerator<ImageStreamEvent, void, undefined> {
  try {
    for await (const { event, data } of readMessages(body ?? new ReadableStream())) {
      if (event === 'error') throw asError(JSON.parse(data) as SchemaError)
      const shown = JSON.parse(data) as ImageStreamEvent
      yield shown
      if (shown.type === 'image_generation.completed') return
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    throw error
  }
  const requestId = headers.get('x-request-id') ?? undefined
  throw new AtelierError('the stream ended before its picture', { code: 'connection_failed', requestId })
}

function asError({ error: { message, code, param, request_id: requestId } }: SchemaError): AtelierError {
  return new AtelierError(message, { code, param: param ?? undefined, requestId })
}
