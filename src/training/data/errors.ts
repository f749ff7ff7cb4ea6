/** What is wrong with the pictures or texts of a job, for the person who gave them. */
export class TrainingDataError extends Error {
  override readonly name = 'TrainingDataError'
}

export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
