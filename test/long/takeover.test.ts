/** From a worker's death, or from its being stopped, to its work running elsewhere; and that it ends once all the same. */
import { expect, onTestFinished, test } from 'vitest'
import { measureTakeover, startCluster, type WorkerProcess } from '../cluster/cluster.ts'
import { startPostgres } from '../postgres/server.ts'

const trials = Number(process.env['ATELIER_TEST_TAKEOVERS'] ?? 12)
const mostMs = 15_000

test(`the 95th percentile of ${trials} takeovers is at most ${mostMs / 1000} s, and each work ends once`, async () => {
  const postgres = await startPostgres()
  onTestFinished(() => postgres.stop())
  await using cluster = await startCluster(await postgres.createDatabase())
  let workers: readonly WorkerProcess[] = await Promise.all([
    cluster.startWorker(100),
    cluster.startWorker(100),
  ])
  const tookMs: number[] = []
  for (let trial = 0; trial < trials; trial++) {
    const signal = trial % 3 === 2 ? 'SIGSTOP' : 'SIGKILL'
    const { victim, tookMs: ms, generation } = await measureTakeover(cluster, workers, signal)
    tookMs.push(ms)
    console.info(`${trial + 1}: ${(ms / 1000).toFixed(1)} s after ${signal}`)
    // Whoever was stopped goes on in the middle of what another one makes now.
    victim.process.kill('SIGCONT')
    const settled = await cluster.service.settled(generation)
    expect(settled).toMatchObject({ state: 'succeeded', attempt: 2 })
    const events = await Array.fromAsync(cluster.service.events(generation))
    const told = events.map(({ type }) => type).filter((type) => type !== 'step')
    expect(told).toEqual(['queued', 'started', 'queued', 'started', 'succeeded'])
    expect(await cluster.storage.database.prisma.image.count({ where: { generationId: generation } })).toBe(1)
    await victim.kill()
    workers = [...workers.filter((worker) => worker !== victim), await cluster.startWorker(100)]
  }
  const [last = Infinity] = tookMs.toSorted((a, b) => a - b).slice(Math.ceil(0.95 * trials) - 1)
  console.info(`95th percentile of ${trials}: ${(last / 1000).toFixed(1)} s`)
  expect(last).toBeLessThanOrEqual(mostMs)
})
