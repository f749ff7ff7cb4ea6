/**
 * Takes jobs from the queue, one at a time and the oldest first, has them run, and writes down what comes of it. It never
 * loses one: what is unfinished when it stops is saved and goes back to the queue, and goes on from there at the next start.
 */
import type { Logger } from 'pino'
import { everyProject } from '../access/project.ts'
import { EngineError, type Pool } from '../engine/pool.ts'
import type { TrainingEvent } from '../training/job.ts'
import { isOutage, throughOutages } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'
import type { RunTrace, Tracing } from '../tracing/tracing.ts'
import { checkpointFolders, describeCheckpoint } from './checkpoint-folders.ts'
import type { EnergyMeter } from '../energy/meter.ts'
import { toTrainingJob, type Failure, type FineTuningJob, type JobFolders } from './job.ts'
import { checkpointSaved, RunProgress } from './progress.ts'
import type { FineTuningReader } from './reader.ts'
import { jobChannel } from './rows.ts'
import type { FineTuningRuns } from './runs.ts'
import { nothingTold } from './told.ts'
import type { TrainingTotals } from './totals.ts'

export interface RunnerOptions {
  readonly storage: Storage
  readonly runs: FineTuningRuns
  readonly reader: FineTuningReader
  readonly pool: Pick<Pool, 'train' | 'devices'>
  readonly meter: EnergyMeter
  readonly log: Logger
  readonly foldersOf: (jobId: string) => JobFolders
  readonly maxMicroStepMs: number
  readonly totals: Pick<TrainingTotals, 'begin' | 'add' | 'end'>
  readonly tracing?: Tracing | undefined
}

export interface Runner {
  /** Saves what is at work, which goes back to the queue, and takes nothing more. */
  close(): Promise<void>
}

/** Notifications wake it; this finds what none told of, such as after a failed claim. */
const lookAgainMs = { alone: 15_000, shared: 2_000 }
/** How long a runner that stops waits for a database that is away. What it cannot tell then is taken back by others. */
const stopWithinMs = 10_000

export async function startRunner(options: RunnerOptions): Promise<Runner> {
  const { storage, runs, reader, pool, log, foldersOf, maxMicroStepMs, meter, totals, tracing } = options
  const stop = new AbortController()
  let running: Promise<void> | undefined
  let claimAgain = false
  /** Aborted when a stopping runner waits for the database no longer. */
  const giveUp = new AbortController()
  let current: { readonly id: string; readonly look: () => void; readonly lose: () => void } | undefined

  function wake(): void {
    claimAgain = true
    running ??= runAll()
      .catch((error: unknown) => log.error({ err: error }, 'cannot take jobs from the queue; will try again'))
      .finally(() => {
        running = undefined
        if (claimAgain && !stop.signal.aborted) wake()
      })
  }

  async function runAll(): Promise<void> {
    while (claimAgain && !stop.signal.aborted) {
      claimAgain = false
      const job = await runs.claim()
      if (!job) continue
      claimAgain = true
      try {
        await run(job)
      } catch (error) {
        log.error({ err: error, job: job.id }, 'cannot write the outcome of a job')
        if (isOutage(error)) continue // it waits again at the next claim
        await runs.fail(job, cannotStore, nothingTold).catch((error: unknown) => {
          log.error({ err: error, job: job.id }, 'cannot write that either; it waits again')
        })
      }
    }
  }

  const write = <T>(outcome: () => Promise<T>): Promise<T> => throughOutages(outcome, giveUp.signal)

  async function run(job: FineTuningJob): Promise<void> {
    const folders = foldersOf(job.id)
    const checkpoints = await writeUnknownCheckpoints(job, folders.folder)
    const [pause, cancel] = [new AbortController(), new AbortController()]
    // The row says what is wished of the job; a notification says that it is worth looking.
    const look = async (): Promise<void> => {
      const now = await reader.find(everyProject, job.id)
      // One that another process runs now, or that waits again, is as good as cancelled here.
      if (now?.state !== 'running' || now.attempt !== job.attempt) cancel.abort()
      else if (now.pauseAsked) pause.abort()
    }
    const lookSafely = () => {
      look().catch((error: unknown) => log.error({ err: error, job: job.id }, 'cannot look at a running job'))
    }
    const progress = new RunProgress({
      job,
      folder: folders.folder,
      checkpoints,
      runs,
      pool,
      meter,
      log,
      onLost: () => cancel.abort(),
      totals,
    })
    current = { id: job.id, look: lookSafely, lose: () => cancel.abort() }
    const trace = tracing?.run({ id: job.id, attempt: job.attempt, model: job.model })
    let ended: string | undefined
    totals.begin(job)
    try {
      lookSafely()
      await meter.take(0) // counters are read from here on
      const outcome = await pool
        .train(toTrainingJob(job, folders, maxMicroStepMs), {
          onEvent: (event) => {
            progress.note(event)
            if (trace) noteStage(event, trace)
          },
          onStart: (device) => progress.started(device),
          pause: AbortSignal.any([pause.signal, stop.signal]),
          cancel: cancel.signal,
        })
        .catch((error: unknown) => ({ kind: 'failed' as const, error }))
      const told = await progress.end()
      ended = outcome.kind
      switch (outcome.kind) {
        case 'succeeded':
          await write(() => runs.succeed(job, told))
          break
        case 'paused':
          await write(() => runs.stopped(job, told))
          break
        case 'cancelled':
          break // the row says so already, or is gone
        case 'failed':
          // Devices that close under a stopping server end a job in their own words.
          if (stop.signal.aborted) await write(() => runs.stopped(job, told))
          else {
            log.error({ err: outcome.error, job: job.id }, 'a job failed')
            await write(() => runs.fail(job, describeFailure(outcome.error), told))
          }
      }
    } finally {
      current = undefined
      totals.end(job.id)
      trace?.end(ended ?? 'failed')
    }
  }

  /** A server that died may have had no time to write down what was saved. @returns all that there are */
  async function writeUnknownCheckpoints(job: FineTuningJob, folder: string): Promise<readonly string[]> {
    const kept = await checkpointFolders(folder)
    if (kept.length === 0) return kept
    const known = await reader.foldersOfCheckpoints(job.id)
    const unknown = kept.filter((each) => !known.includes(each))
    const checkpoints = await Promise.all(
      unknown.map((each) => describeCheckpoint(folder, each, job.parameters)),
    )
    const events = checkpoints.map(({ step }) => checkpointSaved(job.id, step))
    await runs.write(job, { ...nothingTold, checkpoints, kept, events })
    return kept
  }

  const { database, fineTuningQueue, presence } = storage
  const stopListening = await Promise.all([
    fineTuningQueue.onJob(wake),
    database.listen(
      jobChannel,
      (id) => {
        if (id === current?.id) current.look()
      },
      () => current?.look(),
    ),
  ])
  const stopLosing = presence.onGone(() => current?.lose())
  const lookAgain = setInterval(wake, database.isShared ? lookAgainMs.shared : lookAgainMs.alone)
  lookAgain.unref()
  wake()

  return {
    async close() {
      stop.abort()
      const giveUpTimer = setTimeout(() => giveUp.abort(), stopWithinMs)
      clearInterval(lookAgain)
      await Promise.all(stopListening.map((stopOne) => stopOne()))
      await running
      clearTimeout(giveUpTimer)
      stopLosing()
    },
  }
}

function noteStage(event: TrainingEvent, trace: RunTrace): void {
  if (event.type === 'stage_started') trace.stageStarted(event.stage, event.kind)
  else if (event.type === 'stage_finished') trace.stageFinished(event.steps)
}

const cannotStore: Failure = {
  code: 'storage_failed',
  message: 'What the job did could not be stored.',
}

function describeFailure(error: unknown): Failure {
  if (error instanceof EngineError)
    return {
      code: error.code === 'device_failed' ? 'device_failed' : 'training_failed',
      message: error.message,
    }
  return { code: 'training_failed', message: 'The job could not be run; the log has the details.' }
}
