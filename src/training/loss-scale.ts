/**
 * Dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2) with the numbers of PyTorch's `GradScaler`:
 * gradients that float16 would round to zero are computed of a multiple of the loss, which is as large as overflows allow.
 */
export interface LossScaleState {
  readonly scale: number
  /** Steps without an overflow since it was last changed. */
  readonly goodSteps: number
}

const growthInterval = 2000
const leastScale = 1

export const startLossScale: LossScaleState = { scale: 65_536, goodSteps: 0 }

/** What the next step takes, after one whose gradients were finite. */
export const afterGoodStep = ({ scale, goodSteps }: LossScaleState): LossScaleState =>
  goodSteps + 1 < growthInterval ? { scale, goodSteps: goodSteps + 1 } : { scale: scale * 2, goodSteps: 0 }

/** After one whose gradients were not: undefined when it was not the scale's fault. */
export const afterOverflow = ({ scale }: LossScaleState): LossScaleState | undefined =>
  scale <= leastScale ? undefined : { scale: scale / 2, goodSteps: 0 }
