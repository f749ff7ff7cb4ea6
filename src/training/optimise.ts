/** What becomes of a step's gradients: norm, clipping, AdamW, and the average of the weights. */
import { adamWPass, defaultAdamW } from './adamw.ts'
import type { TrainingState } from './checkpoint.ts'
import { clipFactor, normPass } from './gradient-sum.ts'
import type { StepReport, TrainingStage } from './job.ts'
import { learningRate } from './learning-rate.ts'
import { averagePass, warmedUpDecay } from './moving-average.ts'
import type { Tensors } from './tensors.ts'
import { paced, type Units } from './units.ts'

export interface StepGradients {
  readonly gradients: Tensors
  /** What the gradients are to be divided by. */
  readonly weight: number
  readonly loss: number
}

export interface OptimisedStage {
  readonly stage: TrainingStage
  /** Of a parameter's key: those learn at a rate of their own. */
  readonly isTextEncoder: (key: string) => boolean
}

/**
 * Writes weights, moments and average. All parameters decay alike, as in PixArt-α's training.
 * @param step from 0
 * @returns undefined, and nothing is written, when the loss or a gradient is not finite
 */
export async function* optimise(
  { weights, average, optimiser }: TrainingState,
  { gradients, weight, loss }: StepGradients,
  { stage, isTextEncoder }: OptimisedStage,
  step: number,
): Units<Pick<StepReport, 'loss' | 'gradientNorm' | 'learningRate'> | undefined> {
  const gradientNorm = (yield* paced('update', normPass(gradients))) / weight
  if (!Number.isFinite(gradientNorm) || !Number.isFinite(loss)) return undefined
  const { schedule: kind, learningRate: peak, warmupSteps, steps, weightDecay, emaDecay } = stage
  const rate = learningRate({ kind, peak, warmupSteps, steps }, step)
  const ofTextEncoder = (stage.textEncoderLearningRate ?? peak) / peak
  const share = (key: string): number => (isTextEncoder(key) ? ofTextEncoder : 1)
  const scale = clipFactor(gradientNorm, stage.gradientClip) / weight
  const options = { ...defaultAdamW, weightDecay: () => weightDecay }
  yield* paced(
    'update',
    adamWPass(weights, optimiser, { gradients, scale, learningRate: rate, share }, options),
  )
  yield* paced('update', averagePass(average, weights, warmedUpDecay(emaDecay, optimiser.steps)))
  return { loss, gradientNorm, learningRate: rate }
}
