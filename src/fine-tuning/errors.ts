/** What a caller of this room is told when it cannot have what it asks for. */
export type FineTuningErrorCode =
  | 'unknown_model'
  | 'unknown_dataset'
  | 'invalid_job' // what no schema can say: `parameter` names the field
  | 'job_not_found'
  | 'checkpoint_not_found'
  | 'sample_not_found'
  | 'deployment_not_found'
  | 'wrong_state' // such as pausing what has ended
  | 'in_use' // a deployed job or a live deployment is not deleted
  | 'nothing_to_roll_back'
  | 'export_failed'

export class FineTuningError extends Error {
  override readonly name = 'FineTuningError'
  readonly code: FineTuningErrorCode
  /** Which parameter is at fault, where one is. */
  readonly parameter: string | undefined

  constructor(
    code: FineTuningErrorCode,
    message: string,
    details: { parameter?: string; cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? {} : { cause: details.cause })
    this.code = code
    this.parameter = details.parameter
  }
}
