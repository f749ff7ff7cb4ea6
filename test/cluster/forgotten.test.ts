/**
 * A transaction can be committed without anybody being told, when the line breaks in between. What a process holds since then, by the
 * rows, and does not know of, it gives back by itself.
 */
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { defaultProject } from '../../src/access/project.ts'
import { IdempotentCalls } from '../../src/generation/idempotency.ts'
import { GenerationLeases } from '../../src/generation/leases.ts'
import { GenerationRecovery } from '../../src/generation/recovery.ts'
import { GenerationStore } from '../../src/generation/store.ts'
import { startWorker } from '../../src/generation/worker.ts'
import { noPolicy } from '../../src/policy/service.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { paintPool } from '../generation/paint-pool.ts'
import { someParameters, someRequest } from '../generation/parameters.ts'
import { serverDatabase } from '../postgres/database.ts'
import { temporaryFolder } from '../storage/folders.ts'

const patience = { timeout: 60_000, interval: 50 }
const everything = [
  { expectedMs: 0, count: 0 },
  { workMs: Infinity, images: 8 },
] as const

async function openShared(): Promise<Storage> {
  const storage = await openStorage({
    dataDir: temporaryFolder(),
    databaseUrl: await serverDatabase(),
    kind: 'worker',
    onError: (error) => {
      throw error
    },
  })
  onTestFinished(() => storage.close())
  return storage
}

async function create(storage: Storage, count: number): Promise<string[]> {
  const store = new GenerationStore(storage)
  const ids: string[] = []
  for (let seed = 0; seed < count; seed++) {
    const request = someRequest({ parameters: someParameters({ seed }) })
    const { generation } = await store.create(request, () => undefined)
    ids.push(generation.id)
  }
  return ids
}

test('generations whose claim nobody heard of are made all the same, by a process that lives on', async () => {
  const storage = await openShared()
  const ids = await create(storage, 3)
  const leases = new GenerationLeases(storage)
  expect(await leases.claim(...everything)).toHaveLength(3) // and nobody takes them up
  const worker = await startWorker({
    storage,
    leases,
    recovery: new GenerationRecovery(storage),
    pool: paintPool(),
    log: pino({ level: 'silent' }),
    policy: noPolicy,
    window: everything[1],
    devices: () => 1,
    onSettled: () => undefined,
  })
  onTestFinished(() => worker.close())
  const rows = storage.database.prisma.generation
  await expect.poll(() => rows.count({ where: { state: 'succeeded' } }), patience).toBe(3)
  // A claim that no device began with counts against nobody.
  expect(await rows.findMany({ where: { attempt: 2, crashes: 0, heldBy: null } })).toHaveLength(ids.length)
})

test('what is in hand is not taken for forgotten', async () => {
  const storage = await openShared()
  const [first = '', second = ''] = await create(storage, 2)
  await new GenerationLeases(storage).claim(...everything)
  const recovery = new GenerationRecovery(storage)
  expect(await recovery.takeBackForgotten([first, second])).toEqual({ waiting: 0, failed: [] })
  expect(await recovery.takeBackForgotten([first])).toEqual({ waiting: 1, failed: [] })
  const held = await storage.database.prisma.generation.findMany({ where: { claimed: true } })
  expect(held.map(({ id }) => id)).toEqual([first])
})

test('an idempotent call whose claim nobody heard of is made when it comes again', async () => {
  const storage = await openShared()
  const calls = new IdempotentCalls(storage)
  const call = { project: defaultProject, key: 'once', operation: 'test', body: { a: 1 } }
  const { idempotencyKey } = storage.database.prisma
  expect(await calls.once(call, async () => 'first')).toEqual({ answer: 'first', replayed: false })
  const { id } = storage.presence
  await storage.database.prisma.$executeRaw`UPDATE "IdempotencyKey" SET "heldBy" = ${id}, "answer" = NULL`
  expect(await calls.once(call, async () => 'second')).toEqual({ answer: 'second', replayed: false })
  expect(await calls.once(call, async () => 'third')).toEqual({ answer: 'second', replayed: true })
  expect(await idempotencyKey.count()).toBe(1)
})
