/** What is wrong with the pictures or texts of a job, for the person who gave them. */
export class TrainingDataError extends Error {
  override readonly name = 'TrainingDataError'
}

export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** @throws {TrainingDataError} so that nothing that overflowed is cached */
export function requireFinite(numbers: Float32Array, what: string): void {
  if (!numbers.every(Number.isFinite))
    throw new TrainingDataError(`${what}: expected finite numbers of the encoder`)
}
