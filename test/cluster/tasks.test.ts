/** What API processes ask of workers, each over storage of its own on one database. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { openRemotePool, serveTasks, type RemotePool } from '../../src/cluster/tasks.ts'
import { EngineError, type ModelInfo } from '../../src/engine/pool.ts'
import { Deployments } from '../../src/fine-tuning/deployments.ts'
import { followDeployments } from '../../src/fine-tuning/follow-deployments.ts'
import type { ProcessKind } from '../../src/storage/presence.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { configured } from '../fine-tuning/fixture.ts'
import { practicePool } from '../fine-tuning/practice-pool.ts'
import { paintModel } from '../generation/paint-pool.ts'
import { serverDatabase } from '../postgres/database.ts'
import { temporaryFolder } from '../storage/folders.ts'

const patience = { timeout: 60_000, interval: 50 }
const log = pino({ level: 'silent' })
const folder = { name: 'one', folder: '/models/one' }
const infoOf = (name: string): ModelInfo => ({ ...paintModel, name })

async function open(databaseUrl: string, kind: ProcessKind): Promise<Storage> {
  const storage = await openStorage({
    dataDir: temporaryFolder(),
    databaseUrl,
    kind,
    onError: (error) => {
      throw error
    },
  })
  onTestFinished(() => storage.close())
  return storage
}

async function openRemote(storage: Storage): Promise<RemotePool> {
  const remote = await openRemotePool(storage)
  onTestFinished(() => remote.close())
  return remote
}

/** @returns how to end it before the test does */
async function serve(storage: Storage, pool: RemotePool): Promise<() => Promise<void>> {
  const tasks = await serveTasks(storage, pool, log)
  let closing: Promise<void> | undefined
  const close = () => (closing ??= tasks.close())
  onTestFinished(close)
  return close
}

const doesNothing: RemotePool = {
  deploy: async ({ name }) => infoOf(name),
  withdraw: async () => undefined,
  exportCheckpoint: async () => undefined,
}

test('a worker does what is asked for and answers, or says why not; the row goes with the answer', async () => {
  const url = await serverDatabase()
  const [api, worker] = await Promise.all([open(url, 'api'), open(url, 'worker')])
  const remote = await openRemote(api)
  const asked = remote.deploy(folder) // before there is anybody to do it
  const withdrawn: string[] = []
  await serve(worker, {
    ...doesNothing,
    withdraw: async (name) => void withdrawn.push(name),
    exportCheckpoint: async () => {
      throw new EngineError('training_failed', 'no room')
    },
  })
  expect(await asked).toEqual(infoOf('one'))
  await remote.withdraw('one')
  expect(withdrawn).toEqual(['one'])
  const order = { job: {}, checkpoint: 'c', out: '/out', form: 'model' } as Parameters<
    RemotePool['exportCheckpoint']
  >[0]
  await expect(remote.exportCheckpoint(order)).rejects.toMatchObject({
    name: 'EngineError',
    code: 'training_failed',
    message: 'no room',
  })
  await expect.poll(() => api.database.prisma.workerTask.count(), patience).toBe(0)
})

test('each task is done by one worker, and by its maker again when the claim was not told', async () => {
  const url = await serverDatabase()
  const [api, first, second] = await Promise.all([open(url, 'api'), open(url, 'worker'), open(url, 'worker')])
  const remote = await openRemote(api)
  const done: string[] = []
  const pool: RemotePool = {
    ...doesNothing,
    deploy: async ({ name }) => {
      done.push(name)
      return infoOf(name)
    },
  }
  const asked = remote.deploy(folder)
  // As after a claim that was committed when the line broke.
  await expect.poll(() => api.database.prisma.workerTask.count(), patience).toBe(1)
  await api.database.prisma.workerTask.updateMany({ data: { heldBy: first.presence.id } })
  await serve(second, pool)
  await remote.deploy({ ...folder, name: 'other' })
  expect(done).toEqual(['other']) // the one that came before is another worker's
  await serve(first, pool)
  await asked
  const names = ['a', 'b', 'c', 'd', 'e']
  await Promise.all(names.map((name) => remote.deploy({ ...folder, name })))
  expect(done.toSorted()).toEqual([...names, 'one', 'other'])
})

test('what a worker had in hand that is gone another one does; a late answer of the first is not taken', async () => {
  const url = await serverDatabase()
  const [api, first, second] = await Promise.all([open(url, 'api'), open(url, 'worker'), open(url, 'worker')])
  const remote = await openRemote(api)
  const letGo = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  const closeFirst = await serve(first, {
    ...doesNothing,
    deploy: async () => {
      begun.resolve()
      await letGo.promise
      throw new EngineError('device_failed', 'late')
    },
  })
  const asked = remote.deploy(folder)
  await begun.promise
  const goneAt = new Date()
  await api.database.prisma.process.update({ where: { id: first.presence.id }, data: { goneAt } })
  await serve(second, {
    ...doesNothing,
    deploy: async ({ name }) => {
      letGo.resolve()
      await closeFirst() // which has answered by then
      return infoOf(name)
    },
  })
  expect(await asked).toEqual(infoOf('one'))
})

test('a deployment that one worker has made reaches the others, as does its end', async () => {
  const url = await serverDatabase()
  const [api, first, second] = await Promise.all([open(url, 'api'), open(url, 'worker'), open(url, 'worker')])
  const pools = await Promise.all(
    [first, second].map(async (storage) => {
      const pool = practicePool()
      const following = await followDeployments({
        storage,
        pool,
        log,
        configured,
        serving: configured,
      })
      onTestFinished(() => following.close())
      await serve(storage, following.pool)
      return pool
    }),
  )
  const remote = await openRemote(api)
  const deployments = new Deployments({
    storage: api,
    pool: {
      ...remote,
      exportCheckpoint: async ({ out }) => {
        mkdirSync(out, { recursive: true })
        writeFileSync(join(out, 'model_index.json'), '{}')
      },
    },
    log,
    dataDir: temporaryFolder(),
    configured,
  })
  const source = {
    job: { id: 'ftjob_1' } as Parameters<Deployments['deploy']>[1]['job'],
    baseModel: 'tiny-512',
    checkpoint: { id: 'c', folder: 'checkpoints/00-000001', step: 1 },
  }
  const { folder: deployed } = await deployments.deploy('tiny-512', source)
  const served = () => pools.map((pool) => pool.served.get('tiny-512'))
  await expect.poll(served, patience).toEqual([deployed, deployed])
  await deployments.rollback('tiny-512')
  const [{ folder: asConfigured }] = configured
  await expect.poll(served, patience).toEqual([asConfigured, asConfigured])
  await deployments.deploy('another', source)
  await expect.poll(() => pools.every((pool) => pool.served.has('another')), patience).toBe(true)
  await deployments.withdraw('another')
  await expect.poll(() => pools.some((pool) => pool.served.has('another')), patience).toBe(false)
})
