/**
 * Every change of a job, each one transaction with its queue job, its events and its notifications; what may become of what is
 * `states.ts`. A run's writes are fenced: they are made only while the row is held by the attempt that makes them.
 */
import { everyProject, ownedBy, type Project, type Whose } from '../access/project.ts'
import type { SampleReport, StepReport } from '../training/job.ts'
import { notify, Prisma, type Transaction } from '../storage/database.ts'
import { isDeadlock } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'
import type { EnergyUse } from './energy.ts'
import { FineTuningError } from './errors.ts'
import { info, toRow, type NewEvent } from './events.ts'
import {
  jobIdOf,
  checkpointIdOf,
  newJobId,
  queueIdOf,
  sampleIdOf,
  toJob,
  type Failure,
  type FineTuningJob,
  type FinishedStage,
} from './job.ts'
import { overallStep, stepsOf } from './specification.ts'
import { isFinal, isWaitingOrRunning, next, type Standing, type StateEvent } from './states.ts'

/** Told when a job has new events, or is gone; the payload is its id. */
export const jobChannel = 'atelier_fine_tuning_job'

/** A job under which its process died so often, without a checkpoint in between, is taken to be the cause. */
export const maxCrashes = 5

export type NewJob = Pick<
  FineTuningJob,
  | 'project'
  | 'requestId'
  | 'model'
  | 'modelVersion'
  | 'base'
  | 'datasetId'
  | 'suffix'
  | 'onBadData'
  | 'parameters'
  | 'plan'
>

/** Which attempt writes. */
export type Attempt = Pick<FineTuningJob, 'id' | 'attempt' | 'parameters'>

export type NewSample = Omit<SampleReport, 'type'>

export interface NewCheckpoint {
  readonly stage: number
  readonly step: number
  /** Relative to the job's folder. */
  readonly folder: string
  readonly sizeBytes: number
}

/** What a run has told since it was last written down. Steps count within their stage. */
export interface Told {
  readonly steps: readonly StepReport[]
  readonly samples: readonly NewSample[]
  readonly checkpoints: readonly NewCheckpoint[]
  /** All that there are now; undefined where that is not known. */
  readonly kept?: readonly string[] | undefined
  readonly reports: readonly FinishedStage[]
  readonly events: readonly NewEvent[]
  readonly deviceMs: number
  readonly energy: EnergyUse | undefined
}

export const nothingTold: Told = {
  steps: [],
  samples: [],
  checkpoints: [],
  reports: [],
  events: [],
  deviceMs: 0,
  energy: undefined,
}

/** Whether this attempt still held the row; when not, nothing was written. */
export type Outcome = 'written' | 'lost'

export interface Recovery {
  /** Given up. */
  readonly failed: readonly string[]
  /** To be validated by this process now. */
  readonly validating: readonly string[]
}

export class FineTuningStore {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /** @param require what must hold in the same transaction */
  async create(
    { parameters, plan, suffix, ...columns }: NewJob,
    require: (transaction: Transaction) => Promise<void>,
  ): Promise<FineTuningJob> {
    return this.#transaction(async (transaction) => {
      await require(transaction)
      const row = await transaction.fineTuningJob.create({
        data: {
          ...columns,
          id: newJobId(),
          heldBy: await this.#storage.presence.require(transaction),
          suffix: suffix ?? null,
          parameters: asJson(parameters),
          plan: asJson(plan),
          steps: stepsOf(parameters),
          eventCount: 1,
        },
      })
      await addEvents(transaction, row.id, 1, [info('Job created', { type: 'created' })])
      return toJob(row)
    })
  }

  /** The snapshot is made: the job waits for its turn, or pauses when that was asked for meanwhile. */
  async validated(id: string, pictures: { used: number; leftOut: number }): Promise<void> {
    const { used, leftOut } = pictures
    await this.#change(everyProject, id, 'validated', {
      data: { pictures: used, leftOut },
      events: (standing) => [
        info(`Dataset read: ${used} pictures${leftOut > 0 ? `, ${leftOut} left out` : ''}`, {
          type: 'validated',
          pictures: used,
          left_out: leftOut,
        }),
        standing.state === 'paused'
          ? info('Job paused', { type: 'paused' })
          : info('Job waits for its turn', { type: 'queued' }),
      ],
    })
  }

  /** Of a job that is not running: what is wrong with it. */
  async refuse(id: string, error: Failure): Promise<void> {
    await this.#change(everyProject, id, 'failed', {
      data: { errorCode: error.code, errorMessage: error.message },
      events: () => [failure(error)],
    })
  }

  /** @throws {FineTuningError} `job_not_found`, `wrong_state` */
  pause(project: Project, id: string): Promise<FineTuningJob> {
    return this.#command(project, id, 'pause', (standing) =>
      standing.state === 'paused'
        ? [info('Job paused', { type: 'paused' })]
        : [info('Job pauses when its work at hand is saved', { type: 'pausing' })],
    )
  }

  /** @throws {FineTuningError} `job_not_found`, `wrong_state` */
  resume(project: Project, id: string): Promise<FineTuningJob> {
    return this.#command(project, id, 'resume', () => [info('Job resumed', { type: 'resumed' })])
  }

  /** Does nothing to a job that is final already. @throws {FineTuningError} `job_not_found` */
  cancel(project: Project, id: string): Promise<FineTuningJob> {
    return this.#command(project, id, 'cancel', () => [info('Job cancelled', { type: 'cancelled' })])
  }

  /** Takes the queued job that was created first; that begins a new attempt. */
  async claim(): Promise<FineTuningJob | undefined> {
    const { fineTuningQueue, presence } = this.#storage
    return this.#transaction(async (transaction) => {
      const heldBy = await presence.require(transaction)
      for (;;) {
        const [queueId] = await fineTuningQueue.fetch(transaction, 1)
        if (queueId === undefined) return undefined
        const id = jobIdOf(queueId)
        const row = await find(transaction, everyProject, id)
        const standing = row && next(row, 'claimed')
        if (row && standing) {
          const startedAt = row.startedAt ?? new Date()
          const data = { ...standing, heldBy, startedAt, attempt: { increment: 1 } }
          return toJob(await transaction.fineTuningJob.update({ where: { id }, data }))
        }
        // Its row is paused, final or gone; one that runs keeps its job.
        if (row?.state !== 'running') await fineTuningQueue.remove(transaction, queueId)
      }
    })
  }

  /** @returns `lost` when the row is no longer held by this attempt; nothing was written then */
  async write(attempt: Attempt, told: Told): Promise<Outcome> {
    return this.#transaction((transaction) => this.#write(transaction, attempt, told))
  }

  /** The run has ended before the job did: it pauses where that was asked for, and waits for its next turn otherwise. */
  async stopped(attempt: Attempt, told: Told): Promise<Outcome> {
    return this.#end(attempt, 'stopped', told, {}, (standing) =>
      standing.state === 'paused'
        ? info('Job paused', { type: 'paused' })
        : info('Job waits for its next turn', { type: 'queued' }),
    )
  }

  async succeed(attempt: Attempt, told: Told): Promise<Outcome> {
    return this.#end(attempt, 'succeeded', told, {}, () => info('Job succeeded', { type: 'succeeded' }))
  }

  async fail(attempt: Attempt, error: Failure, told: Told): Promise<Outcome> {
    const data = { errorCode: error.code, errorMessage: error.message }
    return this.#end(attempt, 'failed', told, data, () => failure(error))
  }

  /**
   * At the start of the only process of a database: what ran waits again, with queue jobs made anew, whatever the queue
   * remembers. Cut short at any point, it does the same at the next start.
   */
  async recover(): Promise<Recovery> {
    await this.#storage.fineTuningQueue.clear()
    return this.#transaction(async (transaction) => {
      const held = await transaction.fineTuningJob.findMany({
        where: { state: { in: ['running', 'validating'] } },
      })
      const recovery = await this.#free(transaction, held)
      const waiting = await transaction.fineTuningJob.findMany({ where: { state: 'queued' } })
      await this.#storage.fineTuningQueue.send(transaction, waiting.map(asQueueJob))
      return recovery
    })
  }

  /** What processes ran or validated that are gone waits again, as after `recover`. Every process may call it, at any time. */
  async takeBack(): Promise<Recovery> {
    const { fineTuningQueue, presence } = this.#storage
    return this.#transaction(async (transaction) => {
      const left = await transaction.$queryRaw<{ id: string }[]>`
        SELECT "id" FROM "FineTuningJob" AS row WHERE "state" IN ('running', 'validating')
          AND ${presence.isGone(Prisma.sql`row."heldBy"`)}
        ORDER BY "number" FOR UPDATE SKIP LOCKED`
      if (left.length === 0) return { failed: [], validating: [] }
      const ids = { in: left.map(({ id }) => id) }
      const held = await transaction.fineTuningJob.findMany({ where: { id: ids } })
      const recovery = await this.#free(transaction, held)
      for (const { id } of left) await fineTuningQueue.remove(transaction, queueIdOf(id))
      const waiting = await transaction.fineTuningJob.findMany({ where: { id: ids, state: 'queued' } })
      await fineTuningQueue.send(transaction, waiting.map(asQueueJob))
      return recovery
    })
  }

  /** Jobs whose process is gone: those that ran stop, and those that were being validated are held by this process now. */
  async #free(transaction: Transaction, held: readonly Row[]): Promise<Recovery> {
    const failed: string[] = []
    const heldBy = await this.#storage.presence.require(transaction)
    const validating = held.filter(({ state }) => state === 'validating').map(({ id }) => id)
    await transaction.fineTuningJob.updateMany({ where: { id: { in: validating } }, data: { heldBy } })
    for (const row of held.filter(({ state }) => state === 'running')) {
      const crashes = row.crashes + 1
      const isCause = crashes >= maxCrashes
      const standing = next(row, isCause ? 'failed' : 'stopped')
      if (!standing) continue
      if (isCause) failed.push(row.id)
      await transaction.fineTuningJob.update({
        where: { id: row.id },
        data: {
          ...standing,
          crashes,
          heldBy: null,
          expectedEnd: null,
          ...(isCause && {
            errorCode: serverFailed.code,
            errorMessage: serverFailed.message,
            finishedAt: new Date(),
          }),
          eventCount: { increment: 1 },
        },
      })
      const event = isCause
        ? failure(serverFailed)
        : standing.state === 'paused'
          ? info('The server had stopped; the job is paused at its last checkpoint', { type: 'paused' })
          : info('The server had stopped; the job goes on from its last checkpoint', { type: 'queued' })
      await addEvents(transaction, row.id, row.eventCount + 1, [event])
    }
    return { failed, validating }
  }

  /**
   * Removes a final job with all its rows.
   * @throws {FineTuningError} `job_not_found`, `wrong_state`, `in_use` while a checkpoint of it is live
   */
  async delete(project: Project, id: string): Promise<void> {
    await this.#transaction(async (transaction) => {
      const row = await lock(transaction, project, id)
      if (!isFinal(row.state))
        throw new FineTuningError('wrong_state', `the job is ${row.state}; cancel it first`)
      const live = await transaction.deployment.findFirst({ where: { jobId: id, state: 'live' } })
      if (live)
        throw new FineTuningError(
          'in_use',
          `a checkpoint of the job serves as ${live.name}; roll that back or withdraw it first`,
        )
      await transaction.fineTuningJob.delete({ where: { id } })
      await notify(transaction, jobChannel, id)
    })
  }

  async #command(
    project: Project,
    id: string,
    event: StateEvent & ('pause' | 'resume' | 'cancel'),
    events: (standing: Standing) => readonly NewEvent[],
  ): Promise<FineTuningJob> {
    const changed = await this.#change(project, id, event, { events })
    if ('refused' in changed)
      throw new FineTuningError('wrong_state', `the job is ${changed.refused}, and cannot ${event}`)
    return changed
  }

  async #change(
    whose: Whose,
    id: string,
    event: StateEvent,
    {
      data = {},
      events,
    }: {
      readonly data?: Prisma.FineTuningJobUpdateInput
      readonly events: (standing: Standing) => readonly NewEvent[]
    },
  ): Promise<FineTuningJob | { readonly refused: Standing['state'] }> {
    return this.#transaction(async (transaction) => {
      const row = await lock(transaction, whose, id)
      const standing = next(row, event)
      if (!standing) return { refused: row.state }
      if (standing.state === row.state && standing.pauseAsked === row.pauseAsked) return toJob(row)
      return this.#move(transaction, row, standing, data, events(standing))
    })
  }

  async #move(
    transaction: Transaction,
    row: Row,
    standing: Standing,
    data: Prisma.FineTuningJobUpdateInput,
    events: readonly NewEvent[],
  ): Promise<FineTuningJob> {
    const { fineTuningQueue } = this.#storage
    const moved = await transaction.fineTuningJob.update({
      where: { id: row.id },
      data: {
        ...data,
        ...standing,
        ...(isFinal(standing.state) && { finishedAt: new Date() }),
        ...(standing.state !== 'running' && { expectedEnd: null, heldBy: null }),
        eventCount: { increment: events.length },
      },
    })
    await addEvents(transaction, row.id, moved.eventCount, events)
    const [was, is] = [isWaitingOrRunning(row.state), isWaitingOrRunning(standing.state)]
    if (!was && is) await fineTuningQueue.send(transaction, [asQueueJob(row)])
    if (was && !is) await fineTuningQueue.remove(transaction, queueIdOf(row.id))
    if (row.state === 'running' && standing.state === 'queued')
      await fineTuningQueue.handBack(transaction, queueIdOf(row.id))
    return toJob(moved)
  }

  async #end(
    attempt: Attempt,
    event: 'stopped' | 'succeeded' | 'failed',
    told: Told,
    data: Prisma.FineTuningJobUpdateInput,
    last: (standing: Standing) => NewEvent,
  ): Promise<Outcome> {
    return this.#transaction(async (transaction) => {
      if ((await this.#write(transaction, attempt, told)) === 'lost') return 'lost'
      const row = await lock(transaction, everyProject, attempt.id)
      const standing = next(row, event)
      if (!standing) return 'lost'
      await this.#move(transaction, row, standing, data, [last(standing)])
      return 'written'
    })
  }

  async #write(transaction: Transaction, { id, attempt, parameters }: Attempt, told: Told): Promise<Outcome> {
    const last = told.steps.at(-1)
    const [row] = await transaction.fineTuningJob.updateManyAndReturn({
      where: { id, attempt, state: 'running' },
      data: {
        ...(last && {
          step: overallStep(parameters, last.stage, last.step),
          expectedEnd: new Date(Date.now() + last.etaMs),
        }),
        ...(told.checkpoints.length > 0 && { crashes: 0 }),
        deviceMs: { increment: told.deviceMs },
        ...(told.energy && { joules: { increment: told.energy.joules }, energySource: told.energy.source }),
        eventCount: { increment: told.events.length },
      },
    })
    if (!row) return 'lost'
    await writeSteps(transaction, row.number, parameters, told.steps)
    await writeSamples(transaction, id, told.samples)
    await writeCheckpoints(transaction, id, told)
    if (told.reports.length > 0) {
      const others = toJob(row).reports.filter(
        ({ stage }) => !told.reports.some((one) => one.stage === stage),
      )
      const reports = [...others, ...told.reports].toSorted((a, b) => a.stage - b.stage)
      await transaction.fineTuningJob.update({ where: { id }, data: { reports: asJson(reports) } })
    }
    await addEvents(transaction, id, row.eventCount, told.events)
    return 'written'
  }

  /** Rows and queue jobs are locked in different orders, now and then by two who then wait for each other. */
  async #transaction<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await this.#storage.database.prisma.$transaction(work)
      } catch (error) {
        if (!isDeadlock(error)) throw error
      }
    }
  }
}

type Row = Prisma.FineTuningJobGetPayload<object>

const serverFailed: Failure = {
  code: 'server_failed',
  message: `The server died ${maxCrashes} times under this job, without a checkpoint in between.`,
}

const failure = (error: Failure): NewEvent => ({
  level: 'error',
  message: error.message,
  details: { type: 'failed', code: error.code },
})

const asQueueJob = ({ id, createdAt }: Pick<Row, 'id' | 'createdAt'>) => ({
  id: queueIdOf(id),
  turnAt: createdAt,
})

const asJson = (value: object): Prisma.InputJsonObject =>
  JSON.parse(JSON.stringify(value)) as Prisma.InputJsonObject

async function find(transaction: Transaction, whose: Whose, id: string): Promise<Row | null> {
  await transaction.$queryRaw`SELECT 1 FROM "FineTuningJob" WHERE "id" = ${id} FOR UPDATE`
  return transaction.fineTuningJob.findUnique({ where: { id, ...ownedBy(whose) } })
}

/** @throws {FineTuningError} `job_not_found` */
async function lock(transaction: Transaction, whose: Whose, id: string): Promise<Row> {
  const row = await find(transaction, whose, id)
  if (!row) throw new FineTuningError('job_not_found', `there is no job ${id}`)
  return row
}

/** Adds events that the row's `eventCount` already counts, and tells of them. */
async function addEvents(
  transaction: Transaction,
  jobId: string,
  eventCount: number,
  events: readonly NewEvent[],
): Promise<void> {
  if (events.length === 0) return
  await transaction.fineTuningEvent.createMany({
    data: events.map((event, index) => ({
      jobId,
      sequence: eventCount - events.length + index + 1,
      ...toRow(event),
    })),
  })
  await notify(transaction, jobChannel, jobId)
}

/** A step that was taken again, after a crash, is written over. */
async function writeSteps(
  transaction: Transaction,
  jobNumber: number,
  parameters: Attempt['parameters'],
  steps: readonly StepReport[],
): Promise<void> {
  if (steps.length === 0) return
  const rows = steps.map(({ stage, step, loss, gradientNorm, learningRate, imagesPerSecond, deviceMs }) => ({
    step: overallStep(parameters, stage, step),
    loss,
    gradientNorm,
    learningRate,
    imagesPerSecond,
    deviceMs,
  }))
  await transaction.$executeRaw`
    INSERT INTO "FineTuningMetric" ("jobNumber", "step", "loss", "gradientNorm", "learningRate", "imagesPerSecond", "deviceMs")
    SELECT ${jobNumber}::int, told.* FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS told(
      "step" int, "loss" real, "gradientNorm" real, "learningRate" real, "imagesPerSecond" real, "deviceMs" real)
    ON CONFLICT ("jobNumber", "step") DO UPDATE SET "loss" = excluded."loss", "gradientNorm" = excluded."gradientNorm",
      "learningRate" = excluded."learningRate", "imagesPerSecond" = excluded."imagesPerSecond", "deviceMs" = excluded."deviceMs"`
}

async function writeSamples(
  transaction: Transaction,
  jobId: string,
  samples: readonly NewSample[],
): Promise<void> {
  for (const { seed, ...rest } of samples) {
    const columns = { ...rest, jobId, seed: BigInt(seed) }
    const id = sampleIdOf(jobId, rest)
    await transaction.fineTuningSample.upsert({ where: { id }, create: { id, ...columns }, update: columns })
  }
}

async function writeCheckpoints(
  transaction: Transaction,
  jobId: string,
  { checkpoints, kept }: Pick<Told, 'checkpoints' | 'kept'>,
): Promise<void> {
  for (const { sizeBytes, ...rest } of checkpoints) {
    const columns = { ...rest, jobId, sizeBytes: BigInt(sizeBytes) }
    const id = checkpointIdOf(jobId, rest)
    await transaction.fineTuningCheckpoint.upsert({
      where: { id },
      create: { id, ...columns },
      update: columns,
    })
  }
  if (kept)
    await transaction.fineTuningCheckpoint.deleteMany({ where: { jobId, folder: { notIn: [...kept] } } })
}
