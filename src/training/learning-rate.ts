/** The learning rate at every step. */

export interface LearningRateSchedule {
  readonly kind: 'constant' | 'cosine'
  /** After the warm-up. */
  readonly peak: number
  /** Over these steps it grows evenly to the peak, which the last of them has. */
  readonly warmupSteps: number
  /** Of the whole training; the cosine (Loshchilov & Hutter 2017, arXiv 1608.03983) reaches zero after the last. */
  readonly steps: number
}

/** @param step from 0 */
export function learningRate({ kind, peak, warmupSteps, steps }: LearningRateSchedule, step: number): number {
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps
  switch (kind) {
    case 'constant':
      return peak
    case 'cosine': {
      const progress = Math.min((step - warmupSteps) / Math.max(steps - warmupSteps, 1), 1)
      return (peak * (1 + Math.cos(Math.PI * progress))) / 2
    }
  }
}
