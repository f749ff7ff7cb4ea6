/**
 * What clients change of a job, and its validation: each change one transaction with its queue job, its events and its
 * notifications; what may become of what is `states.ts`. What a run changes is `runs.ts`.
 */
import { everyProject, type Project } from '../access/project.ts'
import { notify, type Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { inTransaction } from '../storage/transactions.ts'
import { FineTuningError } from './errors.ts'
import { info, type NewEvent } from './events.ts'
import { newJobId, toJob, type Failure, type FineTuningJob } from './job.ts'
import { addEvents, asJson, failure, find, jobChannel, lock, move } from './rows.ts'
import { stepsOf } from './specification.ts'
import { isFinal, next, type Standing, type StateEvent } from './states.ts'

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
    return inTransaction(this.#storage.database, async (transaction) => {
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
    await this.#verdict(id, 'validated', {
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

  /** What is wrong with a job that was validated. */
  async refuse(id: string, error: Failure): Promise<void> {
    await this.#verdict(id, 'failed', {
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

  /**
   * Removes a final job with all its rows.
   * @throws {FineTuningError} `job_not_found`, `wrong_state`, `in_use` while a checkpoint of it is live
   */
  async delete(project: Project, id: string): Promise<void> {
    await inTransaction(this.#storage.database, async (transaction) => {
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
    return inTransaction(this.#storage.database, async (transaction) => {
      const row = await lock(transaction, project, id)
      const standing = next(row, event)
      if (!standing) throw new FineTuningError('wrong_state', `the job is ${row.state}, and cannot ${event}`)
      if (standing.state === row.state && standing.pauseAsked === row.pauseAsked) return toJob(row)
      return move(this.#storage, transaction, row, standing, {}, events(standing))
    })
  }

  /** Fenced: only while this process is the one that validates the job. */
  async #verdict(
    id: string,
    event: 'validated' | 'failed',
    {
      data,
      events,
    }: {
      readonly data: Prisma.FineTuningJobUpdateInput
      readonly events: (standing: Standing) => readonly NewEvent[]
    },
  ): Promise<void> {
    await inTransaction(this.#storage.database, async (transaction) => {
      const row = await find(transaction, everyProject, id)
      if (row?.state !== 'validating' || row.heldBy !== this.#storage.presence.id) return
      const standing = next(row, event)
      if (standing) await move(this.#storage, transaction, row, standing, data, events(standing))
    })
  }
}
