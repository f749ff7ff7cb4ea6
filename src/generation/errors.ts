/** What a caller of this room is told when a generation cannot be accepted. */
export type GenerationErrorCode = 'idempotency_conflict' | 'queue_full' | 'unknown_model' | 'invalid_text'

export class GenerationError extends Error {
  override readonly name = 'GenerationError'
  readonly code: GenerationErrorCode
  /** With `queue_full`: when there will likely be room. */
  readonly retryAfterSeconds: number | undefined
  /** Which parameter is at fault, where one is. */
  readonly parameter: string | undefined

  constructor(
    code: GenerationErrorCode,
    message: string,
    details: { retryAfterSeconds?: number; parameter?: string } = {},
  ) {
    super(message)
    this.code = code
    this.retryAfterSeconds = details.retryAfterSeconds
    this.parameter = details.parameter
  }
}
