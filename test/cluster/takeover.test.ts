import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { leaseMs } from '../../src/storage/presence.ts'
import { serverDatabase } from '../postgres/database.ts'
import { startPostgres } from '../postgres/server.ts'
import { measureTakeover, startCluster } from './cluster.ts'

const patience = { timeout: 90_000, interval: 100 }

/** How fast: `test/long/takeover.test.ts`. */
test('what a killed worker was at is taken over, and ends once', async () => {
  await using cluster = await startCluster(await serverDatabase())
  const workers = await Promise.all([cluster.startWorker(100), cluster.startWorker(100)])
  const { generation } = await measureTakeover(cluster, workers, 'SIGKILL')
  const row = await cluster.storage.database.prisma.generation.findUniqueOrThrow({
    where: { id: generation },
  })
  expect(row).toMatchObject({ attempt: 2, crashes: 1 })
  const settled = await cluster.service.settled(generation)
  expect(settled).toMatchObject({ state: 'succeeded', attempt: 2 })
  const events = await Array.fromAsync(cluster.service.events(generation))
  const told = events.map(({ type }) => type).filter((type) => type !== 'step')
  expect(told).toEqual(['queued', 'started', 'queued', 'started', 'succeeded'])
  expect(cluster.files()).toHaveLength(settled.state === 'succeeded' ? settled.images.length : 0)
})

test('a worker that was stopped past its lease writes nothing more, and works on as another', async () => {
  await using cluster = await startCluster(await serverDatabase())
  const stopped = await cluster.startWorker(100)
  const id = await cluster.create({ steps: 100 })
  await expect.poll(() => cluster.holderOf(id), patience).toBe(stopped.id)
  stopped.process.kill('SIGSTOP')
  const other = await cluster.startWorker(10)
  const settled = await cluster.service.settled(id)
  expect(settled.attempt).toBe(2)
  if (settled.state !== 'succeeded') throw new Error(`expected a success: ${JSON.stringify(settled)}`)
  const files = cluster.files()
  stopped.process.kill('SIGCONT')

  const { prisma } = cluster.storage.database
  const present = () => prisma.process.count({ where: { kind: 'worker', goneAt: null } })
  await expect.poll(present, patience).toBe(2)
  await other.kill()
  const next = await cluster.create({ steps: 1 })
  expect(await cluster.service.settled(next)).toMatchObject({ state: 'succeeded', attempt: 1 })
  expect(await cluster.service.settled(id)).toEqual(settled)
  expect(await prisma.image.count({ where: { generationId: id } })).toBe(settled.images.length)
  await expect.poll(() => cluster.files().length, patience).toBe(files.length + 1)
})

test('a database that is killed and comes back loses nothing that was accepted', async () => {
  const postgres = await startPostgres()
  try {
    await using cluster = await startCluster(await postgres.createDatabase())
    const workers = await Promise.all([cluster.startWorker(20), cluster.startWorker(20)])
    const accepted: string[] = []
    let refused = 0
    const over = new AbortController()
    const load = (async () => {
      for (let seed = 0; !over.signal.aborted; seed++) {
        await cluster.create({ seed, steps: 20 }).then(
          (id) => accepted.push(id),
          () => refused++,
        )
        await sleep(100)
      }
    })()
    await expect.poll(() => accepted.length, patience).toBeGreaterThan(5)
    const waiting = cluster.service.settled(accepted.at(-1)!)
    for (let outage = 0; outage < 2; outage++) {
      await postgres.kill()
      await expect.poll(() => refused, patience).toBeGreaterThan(outage)
      await sleep(outage * leaseMs * 1.2) // the second outage is longer than a lease
      await postgres.start()
      const before = accepted.length
      await expect.poll(() => accepted.length, patience).toBeGreaterThan(before + 3)
    }
    over.abort()
    await load
    expect(await waiting).toMatchObject({ state: 'succeeded' })
    const settled = await Promise.all(accepted.map((id) => cluster.service.settled(id)))
    expect(settled.filter(({ state }) => state !== 'succeeded')).toEqual([])
    for (const worker of workers) expect(worker.process.exitCode).toBeNull()
    const { prisma } = cluster.storage.database
    // Those whose acceptance an outage kept from being told have ended too.
    await expect.poll(() => prisma.generation.count({ where: { finishedAt: null } }), patience).toBe(0)
    expect(await prisma.image.count()).toBe(await prisma.generation.count({ where: { state: 'succeeded' } }))
  } finally {
    await postgres.stop()
  }
})
