/**
 * What a run changes of its job: it claims it, tells of it and brings it to its end. A run's writes are fenced: they are made only
 * while the row is held by the attempt that makes them. What a process ran or validated that is gone waits again.
 */
import { everyProject } from '../access/project.ts'
import { Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { inTransaction } from '../storage/transactions.ts'
import { info, type NewEvent } from './events.ts'
import { jobIdOf, queueIdOf, toJob, type Failure, type FineTuningJob } from './job.ts'
import { addEvents, asJson, asQueueJob, failure, find, lock, move, type Row } from './rows.ts'
import { overallStep } from './specification.ts'
import { next, type Standing } from './states.ts'
import { writeCheckpoints, writeSamples, writeSteps, type Told } from './told.ts'

/** A job under which its process died so often, without a checkpoint in between, is taken to be the cause. */
export const maxCrashes = 5

const serverFailed: Failure = {
  code: 'server_failed',
  message: `The server died ${maxCrashes} times under this job, without a checkpoint in between.`,
}

/** Which attempt writes. */
export type Attempt = Pick<FineTuningJob, 'id' | 'attempt' | 'parameters'>

/** Whether this attempt still held the row; when not, nothing was written. */
export type Outcome = 'written' | 'lost'

export interface Recovery {
  /** Given up. */
  readonly failed: readonly string[]
  /** To be validated by this process now. */
  readonly validating: readonly string[]
}

export class FineTuningRuns {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * Takes the queued job that was created first; that begins a new attempt. To be called by a process that runs none: what its rows
   * say that it runs, because a claim was committed and not answered, waits again.
   */
  async claim(): Promise<FineTuningJob | undefined> {
    const { fineTuningQueue, presence } = this.#storage
    return inTransaction(this.#storage.database, async (transaction) => {
      const heldBy = await presence.require(transaction)
      await this.#freeForgotten(transaction, heldBy)
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
    return inTransaction(this.#storage.database, (transaction) => this.#write(transaction, attempt, told))
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
    return inTransaction(this.#storage.database, async (transaction) => {
      const held = await transaction.fineTuningJob.findMany({
        where: { state: { in: ['running', 'validating'] } },
      })
      const recovery = await this.#free(transaction, held)
      const waiting = await transaction.fineTuningJob.findMany({ where: { state: 'queued' } })
      await this.#storage.fineTuningQueue.send(transaction, waiting.map(asQueueJob))
      return recovery
    })
  }

  /**
   * What processes ran or validated that are gone waits again, as after `recover`. Every process may call it, at any time. Jobs that
   * this process is to validate are among what is returned, also those that it is at.
   */
  async takeBack(): Promise<Recovery> {
    const { presence } = this.#storage
    return inTransaction(this.#storage.database, async (transaction) => {
      const left = await transaction.$queryRaw<{ id: string }[]>`
        SELECT "id" FROM "FineTuningJob" AS row WHERE "state" IN ('running', 'validating')
          AND (${presence.isGone(Prisma.sql`row."heldBy"`)} OR "state" = 'validating' AND "heldBy" = ${presence.id})
        ORDER BY "number" FOR UPDATE SKIP LOCKED`
      return this.#freeLocked(transaction, left)
    })
  }

  async #freeForgotten(transaction: Transaction, heldBy: string): Promise<void> {
    const forgotten = await transaction.$queryRaw<{ id: string }[]>`
      SELECT "id" FROM "FineTuningJob" WHERE "state" = 'running' AND "heldBy" = ${heldBy} FOR UPDATE`
    await this.#freeLocked(transaction, forgotten)
  }

  /** With queue jobs made anew. */
  async #freeLocked(transaction: Transaction, left: readonly { readonly id: string }[]): Promise<Recovery> {
    if (left.length === 0) return { failed: [], validating: [] }
    const { fineTuningQueue } = this.#storage
    const ids = { in: left.map(({ id }) => id) }
    const held = await transaction.fineTuningJob.findMany({ where: { id: ids } })
    const recovery = await this.#free(transaction, held)
    const ran = held.filter(({ state }) => state === 'running')
    for (const { id } of ran) await fineTuningQueue.remove(transaction, queueIdOf(id))
    const waiting = await transaction.fineTuningJob.findMany({ where: { id: ids, state: 'queued' } })
    await fineTuningQueue.send(transaction, waiting.map(asQueueJob))
    return recovery
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

  async #end(
    attempt: Attempt,
    event: 'stopped' | 'succeeded' | 'failed',
    told: Told,
    data: Prisma.FineTuningJobUpdateInput,
    last: (standing: Standing) => NewEvent,
  ): Promise<Outcome> {
    return inTransaction(this.#storage.database, async (transaction) => {
      if ((await this.#write(transaction, attempt, told)) === 'lost') return 'lost'
      const row = await lock(transaction, everyProject, attempt.id)
      const standing = next(row, event)
      if (!standing) return 'lost'
      await move(this.#storage, transaction, row, standing, data, [last(standing)])
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
}
