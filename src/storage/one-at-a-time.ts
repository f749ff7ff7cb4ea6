/** Work that timers and notifications begin again and again, and that is under way once at the most. */
export interface Repeatedly {
  /** Begins it, unless it is under way. */
  readonly begin: () => void
  /** Resolves when it is not under way. */
  readonly idle: () => Promise<void>
}

/** @param onError hears of what fails; the next time may go well */
export function oneAtATime(work: () => Promise<unknown>, onError: (error: unknown) => void): Repeatedly {
  let underWay: Promise<void> | undefined
  return {
    begin() {
      underWay ??= work()
        .then(() => undefined, onError)
        .finally(() => (underWay = undefined))
    },
    idle: async () => underWay,
  }
}
