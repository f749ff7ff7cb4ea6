/** What a job will be and take, for people. */
import type { JobPlan } from '../../fine-tuning/plan.ts'
import type { JobParameters } from '../../fine-tuning/specification.ts'
import { mebibytes } from '../../weights/units.ts'
import { duration } from './progress.ts'

export function planLines({ method, seed, stages }: JobParameters, plan: JobPlan): readonly string[] {
  const { parameters, use, disk, warnings } = plan
  const adapter = method.kind === 'lora' ? `, as a LoRA of rank ${method.rank}` : ''
  return [
    `trains ${count(parameters.trained)} of ${count(parameters.total)} parameters${adapter} on ${plan.pictures} pictures, seed ${seed}`,
    ...plan.stages.map(({ stage, microBatch, deviceMs, basis, memory }) => {
      const { kind, steps, batchSize, resolution, learningRate } = stages[stage]!
      return `stage ${stage + 1} (${kind}): ${steps} steps of ${batchSize} pictures at ${resolution} px, learning rate ${learningRate}; ${microBatch} at once, ${duration(deviceMs)} (${basis}), ${mebibytes(memory.totalBytes)}`
    }),
    `in all ${duration(plan.expectedMs)}, ${(1000 * use.kwh).toPrecision(2)} Wh, ${mebibytes(plan.peakBytes)} of memory, ${mebibytes(disk.totalBytes)} of disk`,
    ...warnings.map((warning) => `warning: ${warning}`),
  ]
}

const count = (number: number): string => number.toLocaleString('en')
