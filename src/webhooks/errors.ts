/** What a caller of this room is told when it cannot have what it asks for. */
export type WebhookErrorCode =
  | 'invalid_url' // not one that requests may go to
  | 'invalid_cursor'

export class WebhookError extends Error {
  override readonly name = 'WebhookError'
  readonly code: WebhookErrorCode
  /** Which one it does not accept, by its public name. */
  readonly parameter: string

  constructor(
    code: WebhookErrorCode,
    message: string,
    { parameter, ...options }: { parameter: string } & ErrorOptions,
  ) {
    super(message, options)
    this.code = code
    this.parameter = parameter
  }
}
