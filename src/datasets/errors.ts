/** What a caller of this room is told when it cannot have what it asks for, and why a dataset failed. */

export type DatasetErrorCode =
  | 'not_found'
  | 'item_not_found'
  | 'in_use' // a job works with it
  | 'not_ready' // it is still received or checked, or has failed
  | 'invalid_cursor'
  | 'invalid_text' // text that the database cannot hold
  | 'folder_not_allowed' // outside the configured root, or there is none
  | 'shutting_down'
  | DatasetFailureCode

/** Why a whole dataset was given up; stored with it. */
export const datasetFailureCodes = [
  'unknown_archive', // its first bytes are those of no archive that is read here
  'invalid_archive', // damaged, or not what it says it is
  'archive_bomb',
  'too_large',
  'too_many_files',
  'no_pictures',
  'interrupted', // it broke off while it came
  'server_failed',
] as const
export type DatasetFailureCode = (typeof datasetFailureCodes)[number]

export class DatasetError extends Error {
  override readonly name = 'DatasetError'
  readonly code: DatasetErrorCode
  /** Which parameter is at fault, where one is. */
  readonly parameter: string | undefined

  constructor(
    code: DatasetErrorCode,
    message: string,
    { parameter, cause }: { parameter?: string; cause?: unknown } = {},
  ) {
    super(message, cause === undefined ? {} : { cause })
    this.code = code
    this.parameter = parameter
  }
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Of a system's error its code alone, since its message names a path of the server. */
export const reasonOf = (error: unknown): string =>
  error instanceof Error && 'syscall' in error && 'code' in error ? String(error.code) : messageOf(error)
