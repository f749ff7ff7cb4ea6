/** Why a request to somebody else's server was not made, or what became of it. */
export type OutboundErrorCode =
  | 'invalid_target' // its address is not one that requests may go to, whatever it resolves to
  | 'forbidden_target' // it leads to a place that requests may not go to
  | 'unreachable'
  | 'timeout'
  | 'response_too_large'

export class OutboundError extends Error {
  override readonly name = 'OutboundError'
  readonly code: OutboundErrorCode

  constructor(code: OutboundErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
