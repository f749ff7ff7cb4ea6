/** What a caller of this room is told when it cannot have what it asks for. */
export type AccessErrorCode =
  | 'key_not_found'
  | 'invalid_key' // what a new key is to be
  | 'invalid_cursor'

export class AccessError extends Error {
  override readonly name = 'AccessError'
  readonly code: AccessErrorCode
  /** Which parameter is at fault. */
  readonly parameter: string

  constructor(code: AccessErrorCode, message: string, parameter: string) {
    super(message)
    this.code = code
    this.parameter = parameter
  }
}
