/** Why a generation is not made, or its pictures are not kept. */
export type PolicyErrorCode = 'content_policy_violation' | 'moderation_unavailable' // who is to judge does not answer, and nothing passes unjudged

export class PolicyError extends Error {
  override readonly name = 'PolicyError'
  readonly code: PolicyErrorCode
  /** Which text is at fault, where one is. */
  readonly parameter: string | undefined

  constructor(code: PolicyErrorCode, message: string, details: { parameter?: string; cause?: unknown } = {}) {
    super(message, details.cause === undefined ? {} : { cause: details.cause })
    this.code = code
    this.parameter = details.parameter
  }
}
