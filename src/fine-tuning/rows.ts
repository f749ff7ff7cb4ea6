/** A job's row within a transaction: looked up and locked, moved to another standing with its queue job, and told of by events. */
import { ownedBy, type Whose } from '../access/project.ts'
import { notify, type Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { FineTuningError } from './errors.ts'
import { toRow, type NewEvent } from './events.ts'
import { queueIdOf, toJob, type Failure, type FineTuningJob } from './job.ts'
import { isFinal, isWaitingOrRunning, type Standing } from './states.ts'

/** Told when a job has new events, or is gone; the payload is its id. */
export const jobChannel = 'atelier_fine_tuning_job'

export type Row = Prisma.FineTuningJobGetPayload<object>

export const failure = (error: Failure): NewEvent => ({
  level: 'error',
  message: error.message,
  details: { type: 'failed', code: error.code },
})

export const asQueueJob = ({ id, createdAt }: Pick<Row, 'id' | 'createdAt'>) => ({
  id: queueIdOf(id),
  turnAt: createdAt,
})

export const asJson = (value: object): Prisma.InputJsonObject =>
  JSON.parse(JSON.stringify(value)) as Prisma.InputJsonObject

export async function find(transaction: Transaction, whose: Whose, id: string): Promise<Row | null> {
  await transaction.$queryRaw`SELECT 1 FROM "FineTuningJob" WHERE "id" = ${id} FOR UPDATE`
  return transaction.fineTuningJob.findUnique({ where: { id, ...ownedBy(whose) } })
}

/** @throws {FineTuningError} `job_not_found` */
export async function lock(transaction: Transaction, whose: Whose, id: string): Promise<Row> {
  const row = await find(transaction, whose, id)
  if (!row) throw new FineTuningError('job_not_found', `there is no job ${id}`)
  return row
}

export async function move(
  { fineTuningQueue }: Pick<Storage, 'fineTuningQueue'>,
  transaction: Transaction,
  row: Row,
  standing: Standing,
  data: Prisma.FineTuningJobUpdateInput,
  events: readonly NewEvent[],
): Promise<FineTuningJob> {
  const moved = await transaction.fineTuningJob.update({
    where: { id: row.id },
    data: {
      ...data,
      ...standing,
      ...(isFinal(standing.state) && { finishedAt: new Date() }),
      ...(standing.state !== 'running' && { expectedEnd: null }),
      ...(standing.state !== 'running' && standing.state !== 'validating' && { heldBy: null }),
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

/** Adds events that the row's `eventCount` already counts, and tells of them. */
export async function addEvents(
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
