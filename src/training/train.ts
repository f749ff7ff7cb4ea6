/**
 * The training loop: stage after stage, step after step, micro-batch after micro-batch. Every `yield` is a place where the device
 * may do other work, or where the run may be left for good: it goes on from the last checkpoint in the job's folder, and what it
 * comes to is bit for bit what it would have come to.
 */
import { listCheckpoints, readCheckpointState } from './checkpoint.ts'
import type { TrainingHost } from './host.ts'
import type { TrainingJob, TrainingOutcome } from './job.ts'
import { DeviceClock } from './progress.ts'
import { openStageInputs } from './stage-inputs.ts'
import { StageRun } from './stage-run.ts'
import type { Units } from './units.ts'

/**
 * Events since the last checkpoint are told again by a run that goes on from it, that of the checkpoint itself included.
 * @throws {TrainingError | TrainingDataError | WeightsError | ModelConfigError | LoraError} one clear message
 */
export function train(job: TrainingJob, host: TrainingHost): Units<TrainingOutcome> {
  const clock = new DeviceClock()
  return clock.time(trainStages(job, host, clock))
}

async function* trainStages(
  job: TrainingJob,
  host: TrainingHost,
  clock: DeviceClock,
): Units<TrainingOutcome> {
  const last = await lastCheckpoint(job, host)
  let from = last?.report ? undefined : last
  let trained = last?.report ? last.components : (last?.inherited ?? {})
  const first = last === undefined ? 0 : last.stage + (last.report ? 1 : 0)

  for (let stage = first; stage < job.stages.length; stage++) {
    const inputs = await openStageInputs(job, stage, trained, host)
    yield { kind: 'prepare' }
    const run = yield* StageRun.open(inputs, host, clock, { inherited: trained, from })
    if (!run) return { kind: 'paused' }
    try {
      yield* run.evaluateBefore()
      const { steps } = job.stages[stage]!
      while (run.step < steps) {
        yield* run.beginStep()
        for (let microBatch = 0; microBatch < run.microBatches; microBatch++) {
          if (host.pause.aborted) {
            yield* run.save()
            return { kind: 'paused' }
          }
          yield* run.microStep(microBatch)
        }
        yield* run.update()
        if (run.step % job.samples.every === 0) yield* run.sample()
        if (run.step % job.checkpointEvery === 0 && run.step < steps) yield* run.save()
      }
      trained = yield* run.finish()
    } finally {
      await run.close()
    }
    from = undefined
  }
  return { kind: 'succeeded' }
}

async function lastCheckpoint(job: TrainingJob, host: TrainingHost) {
  const name = (await listCheckpoints(job.folder)).at(-1)
  if (name === undefined) return undefined
  const state = await readCheckpointState(job.folder, name)
  const { stage, step, report } = state
  host.tell({ type: 'checkpoint', stage, step, folder: `checkpoints/${name}` })
  if (report) host.tell(report)
  return state
}
