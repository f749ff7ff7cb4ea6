export { isOutage } from '../storage/outage.ts'

/** What a caller of this room is told when it cannot have what it asks for. */
export type GenerationErrorCode =
  | 'idempotency_conflict' // the key was used with another body or for another operation
  | 'generation_deleted' // the key stands for a generation that was deleted since
  | 'queue_full'
  | 'in_flight_limit' // as many generations of the key as may be have not ended
  | 'images_limit' // the key has asked for as many pictures as it may this month
  | 'unknown_model'
  | 'invalid_text' // text that the database cannot hold
  | 'invalid_cursor'
  | 'not_settled' // only what is final can be deleted
  | 'not_found'
  | 'blob_missing' // the picture was erased meanwhile
  | 'blobs_unavailable' // the storage of pictures does not answer

export class GenerationError extends Error {
  override readonly name = 'GenerationError'
  readonly code: GenerationErrorCode
  /** With `queue_full` and the limits: when there will likely be room. */
  readonly retryAfterSeconds: number | undefined
  /** Which parameter is at fault, where one is. */
  readonly parameter: string | undefined

  constructor(
    code: GenerationErrorCode,
    message: string,
    details: { retryAfterSeconds?: number; parameter?: string; cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause })
    this.code = code
    this.retryAfterSeconds = details.retryAfterSeconds
    this.parameter = details.parameter
  }
}
