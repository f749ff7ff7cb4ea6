/** How many rows a micro-batch has: as many as fit into the time after which the device must be free for other work. */
import { reasonOf } from './data/errors.ts'
import type { TrainingHost } from './host.ts'
import type { MicroStepper } from './micro-step.ts'
import { readMicroBatch, writeMicroBatch } from './plan.ts'
import type { StageInputs } from './stage-inputs.ts'
import type { Tensors } from './tensors.ts'
import { each, type Units } from './units.ts'

/** As the job's plan says, or as measured now on the stage's own pictures and put into the plan. */
export async function* microBatchSize(
  { job, index, stage, data }: StageInputs,
  stepper: MicroStepper,
  buffers: { readonly weights: Tensors; readonly gradients: Tensors },
  host: Pick<TrainingHost, 'tell'>,
): Units<number> {
  const known = await readMicroBatch(job.folder, index)
  if (known !== undefined) return known
  const measure = async function* (rows: number): AsyncGenerator<void, number, void> {
    const batch = await data.withRows(rows).microBatch(0, 0)
    const run = (): AsyncGenerator<void, unknown, void> => stepper.run(batch, { ...buffers, lossScale: 1 })
    try {
      // The first round allocates, unless it says enough already.
      const coldMs = yield* longestPartMs(run())
      return coldMs > 2 * job.maxMicroStepMs ? coldMs : yield* longestPartMs(run())
    } catch (error) {
      if (rows === 1) throw error
      // On a device that is quick the memory ends before the time does.
      host.tell({
        type: 'note',
        message: `stage ${index + 1}: fewer than ${rows} pictures a micro-step, which are too many: ${reasonOf(error)}`,
      })
      return Infinity
    }
  }
  const rows = yield* each('prepare', chooseMicroBatch(stage.batchSize, job.maxMicroStepMs, measure))
  await writeMicroBatch(job.folder, index, rows)
  return rows
}

async function* longestPartMs(
  parts: AsyncGenerator<void, unknown, void>,
): AsyncGenerator<void, number, void> {
  let longestMs = 0
  for (;;) {
    const startedMs = performance.now()
    const { done } = await parts.next()
    longestMs = Math.max(longestMs, performance.now() - startedMs)
    yield
    if (done) return longestMs
  }
}

/** Of what a micro-step takes, that does not grow with its rows; no more than this. */
const largestFixedShare = 0.5

/**
 * The largest divisor of the batch whose micro-step stays under the limit; 1 when none does. Goes up from 1, and no further than
 * what the last measurement says could fit.
 * @param measure milliseconds of a micro-step of that many rows
 */
export async function* chooseMicroBatch(
  batchSize: number,
  maxMs: number,
  measure: (rows: number) => AsyncGenerator<void, number, void>,
): AsyncGenerator<void, number, void> {
  const divisors = Array.from({ length: batchSize }, (_, i) => i + 1).filter((rows) => batchSize % rows === 0)
  let [chosen, chosenMs] = [1, 0]
  for (const rows of divisors) {
    const leastMs = chosenMs * (largestFixedShare + ((1 - largestFixedShare) * rows) / chosen)
    if (leastMs > maxMs) break
    const ms = yield* measure(rows)
    if (ms > maxMs && rows > 1) break
    chosen = rows
    chosenMs = ms
  }
  return chosen
}
