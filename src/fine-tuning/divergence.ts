/** Pure: what a stage's report says of a run that unlearned. */
import type { StageReport } from '../training/job.ts'

/** Pictures, noise and timesteps are the same before and after; a rise of a few percent is what memorising costs. */
const toleratedRise = 0.1

/** @returns a warning when pictures that were held out are predicted far worse than before the stage, or not at all */
export function divergence({ stage, heldOut }: Pick<StageReport, 'stage' | 'heldOut'>): string | undefined {
  if (!heldOut) return undefined
  const { lossBefore, lossAfter } = heldOut
  if (lossAfter <= lossBefore + toleratedRise * Math.abs(lossBefore)) return undefined
  return `Stage ${stage + 1} made the model worse: its loss on held-out pictures went from ${lossBefore.toPrecision(4)} to ${lossAfter.toPrecision(4)}; a lower learning rate or fewer steps may help`
}
