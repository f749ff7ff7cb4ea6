/** What a caller of this room is told when it cannot have what it asks for. */
export type WebhookErrorCode =
  | 'invalid_url' // not one that requests may go to
  | 'invalid_cursor'

export class WebhookError extends Error {
  override readonly name = 'WebhookError'
  readonly code: WebhookErrorCode

  constructor(code: WebhookErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
