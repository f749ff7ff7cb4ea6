/** Why a job cannot be trained: said once, in one line, to whoever posted it. */
export class TrainingError extends Error {
  override readonly name: string = 'TrainingError'
}
