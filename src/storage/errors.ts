/** The one catalogue of what can go wrong in storage, so that callers can tell the cases apart. */
export type StorageErrorCode =
  | 'folder_unusable' // the data folder cannot be made or written
  | 'database_held' // another process has the embedded database open
  | 'database_damaged' // the folder is there and does not open
  | 'database_unreachable' // no server answers there, or it lets this user not in
  | 'database_too_old'
  | 'declared_gone' // this process was not heard of for too long; others hold what it held
  | 'migration_changed' // an applied migration's file is not what it was
  | 'migration_failed'
  | 'blob_missing'
  | 'blobs_unavailable' // the storage of pictures does not answer, or refuses
  | 'blobs_foreign' // it holds another database's pictures
  | 'control_failed' // the running server refused a command, or its answer was not understood

export class StorageError extends Error {
  override readonly name = 'StorageError'
  readonly code: StorageErrorCode

  constructor(code: StorageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Whether a file-system call failed with one of these error codes, for example ENOENT. */
export const failedWith = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
