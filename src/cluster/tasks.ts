/**
 * What an API process has a worker do for it: exports of checkpoints, and changes of what is served. One worker does it; what is
 * served is then told to the others by the deployments' rows.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { EngineError, type ExportOrder, type ModelFolder, type ModelInfo, type Pool } from '../engine/pool.ts'
import { Announcements } from '../storage/announcements.ts'
import { notify, Prisma } from '../storage/database.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import { throughOutages } from '../storage/outage.ts'
import type { Storage } from '../storage/storage.ts'

type Shared = Pick<Storage, 'database' | 'presence'>

const askedChannel = 'atelier_task'
const answeredChannel = 'atelier_task_answered'
const lookAgainMs = 2_000

/** What of a pool can be had from afar. */
export type RemotePool = Pick<Pool, 'exportCheckpoint' | 'deploy' | 'withdraw'>

type Task =
  | { readonly kind: 'export'; readonly args: ExportOrder }
  | { readonly kind: 'deploy'; readonly args: ModelFolder }
  | { readonly kind: 'withdraw'; readonly args: { readonly name: string } }

type HeldTask = Task & { readonly id: string; readonly heldBy: string }

type Answer =
  | { readonly result: unknown }
  | { readonly refused: { readonly code: EngineError['code']; readonly message: string } }

/** Asks workers. Each call waits until a worker is there and has answered. */
export async function openRemotePool({
  database,
  presence,
}: Shared): Promise<RemotePool & { close(): Promise<void> }> {
  const answers = new Announcements()
  const stopListening = await database.listen(
    answeredChannel,
    (id) => answers.announce(id),
    () => answers.announceAll(),
  )
  const rows = database.prisma.workerTask

  async function ask({ kind, args }: Task): Promise<unknown> {
    const id = `task_${randomUUID()}`
    const subscription = answers.subscribe(id)
    try {
      await database.prisma.$transaction(async (transaction) => {
        const askedBy = await presence.require(transaction)
        await transaction.workerTask.create({
          data: { id, kind, args: JSON.parse(JSON.stringify(args)) as Prisma.InputJsonObject, askedBy },
        })
        await notify(transaction, askedChannel, id)
      })
      for (;;) {
        const announced = subscription.next()
        const row = await throughOutages(() => rows.findUnique({ where: { id } }))
        if (!row) throw new EngineError('device_failed', 'the worker gave the task up')
        if (row.answer !== null) return read(row.answer as unknown as Answer)
        await announced
      }
    } finally {
      subscription.stop()
      await rows.deleteMany({ where: { id } }).catch(() => undefined) // or by the next look for tasks of nobody
    }
  }

  return {
    exportCheckpoint: async (args) => void (await ask({ kind: 'export', args })),
    deploy: async (args) => (await ask({ kind: 'deploy', args })) as ModelInfo,
    withdraw: async (name) => void (await ask({ kind: 'withdraw', args: { name } })),
    close: stopListening,
  }
}

function read(answer: Answer): unknown {
  if ('result' in answer) return answer.result
  throw new EngineError(answer.refused.code, answer.refused.message)
}

/** Does what API processes ask for, one thing after the other. */
export async function serveTasks(
  { database, presence }: Shared,
  pool: RemotePool,
  log: Logger,
): Promise<{ close(): Promise<void> }> {
  const { prisma } = database
  const closing = new AbortController()

  const working = oneAtATime(workAll, (error) =>
    log.warn({ err: error }, 'cannot take up tasks; will try again'),
  )

  async function workAll(): Promise<void> {
    while (!closing.signal.aborted) {
      const task = await take()
      if (!task) return
      const { id, heldBy } = task
      log.info({ task: id, kind: task.kind }, 'doing what an API process asks for')
      const answer = JSON.parse(JSON.stringify(await answerTo(task))) as Prisma.InputJsonObject
      const tell = () =>
        prisma.$transaction(async (transaction) => {
          // Another worker's answer is awaited when this one was declared gone meanwhile.
          await transaction.workerTask.updateMany({ where: { id, heldBy }, data: { answer } })
          await notify(transaction, answeredChannel, id)
        })
      await throughOutages(tell, closing.signal)
    }
  }

  /** This process does one at a time: what it holds when it comes here it does not know of, or could not tell the answer of. */
  async function take(): Promise<HeldTask | undefined> {
    const [task] = await prisma.$transaction(async (transaction) => {
      const heldBy = await presence.require(transaction)
      await transaction.$executeRaw`
        DELETE FROM "WorkerTask" AS row WHERE ${presence.isGone(Prisma.sql`row."askedBy"`)}`
      return transaction.$queryRaw<HeldTask[]>`
        UPDATE "WorkerTask" SET "heldBy" = ${heldBy} WHERE "id" = (
          SELECT "id" FROM "WorkerTask" AS row WHERE "answer" IS NULL
            AND ("heldBy" = ${heldBy} OR ${presence.isGone(Prisma.sql`row."heldBy"`)})
          ORDER BY "createdAt" LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING "id", "heldBy", "kind", "args"`
    })
    return task
  }

  async function answerTo(task: Task): Promise<Answer> {
    try {
      return { result: (await carryOut(task)) ?? null }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      return { refused: { code: error instanceof EngineError ? error.code : 'device_failed', message } }
    }
  }

  function carryOut(task: Task): Promise<unknown> {
    switch (task.kind) {
      case 'export':
        return pool.exportCheckpoint(task.args)
      case 'deploy':
        return pool.deploy(task.args)
      case 'withdraw':
        return pool.withdraw(task.args.name)
    }
  }

  const stopListening = await database.listen(askedChannel, working.begin, working.begin)
  const timer = setInterval(working.begin, lookAgainMs)
  working.begin()
  return {
    async close() {
      closing.abort()
      clearInterval(timer)
      await stopListening()
      await working.idle()
    },
  }
}
