/**
 * Everything that can fail does, again and again, under load: workers, APIs, the database and S3 are killed, stopped or cut off.
 * Whatever was accepted ends exactly once, with its picture or a clear error, and nothing is left over.
 */
import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { sweepBlobs } from '../../src/generation/sweep.ts'
import { openInstallation } from '../../src/storage/installation.ts'
import { S3Blobs } from '../../src/storage/s3-blobs.ts'
import { openServerDatabase } from '../../src/storage/server-database.ts'
import { startLoad } from '../cluster/load.ts'
import { startProcess, type ServiceProcess } from '../cluster/processes.ts'
import { startS3Process } from '../cluster/s3-process.ts'
import { startPostgres } from '../postgres/server.ts'
import { temporaryFolder } from '../storage/folders.ts'

const seconds = Number(process.env['ATELIER_TEST_CHAOS_SECONDS'] ?? 600)
const seed = Number(process.env['ATELIER_TEST_SEED'] ?? Date.now() % 1e6)
/** So that in ten minutes there are more than sixty, each with the time to be noticed and some that overlap. */
const betweenFaultsMs = { least: 3_000, most: 12_000 }
const clients = 6
const settleMs = 240_000

/** Mulberry32: what happened once can be made to happen again. */
function randomFrom(state: number): () => number {
  let now = state
  return () => {
    now = (now + 0x6d2b79f5) | 0
    let mixed = Math.imul(now ^ (now >>> 15), 1 | now)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Fault {
  readonly name: string
  /** Begins it; what it gives ends it. */
  begin(): Promise<() => Promise<void> | void>
  /** How long it lasts at most, in ms. */
  readonly mostMs: number
}

test(`${seconds} s of faults: what was accepted ends once, and nothing is left over`, async () => {
  const random = randomFrom(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const postgres = await startPostgres()
  onTestFinished(() => postgres.stop())
  const databaseUrl = await postgres.createDatabase()
  const s3 = await startS3Process(temporaryFolder())
  onTestFinished(() => s3.kill())
  const surroundings = {
    dataDir: temporaryFolder(),
    databaseUrl,
    s3Port: s3.port,
    environment: {
      ATELIER_REQUESTS_PER_MINUTE: '0',
      ATELIER_REFUSALS_PER_MINUTE: '0',
      ATELIER_DEVICES: 'cpu:0-0',
      ATELIER_LOG_LEVEL: 'error',
    },
  }
  const processes: ServiceProcess[] = []
  onTestFinished(async () => void (await Promise.all(processes.map((one) => one.close()))))
  processes.push(await startProcess('worker', surroundings)) // which measures what the others then know
  for (const kind of ['worker', 'worker', 'api', 'api'] as const)
    processes.push(await startProcess(kind, surroundings))
  const apis = processes.filter(({ kind }) => kind === 'api')

  const load = startLoad(apis, clients)

  // Faults: each thing has one at a time, and several things can have one.
  const pause = (signal: (signal: NodeJS.Signals) => void) => async () => {
    signal('SIGSTOP')
    return () => signal('SIGCONT')
  }
  const faultsOf = (one: ServiceProcess): Fault[] => [
    {
      name: `kill ${one.kind}`,
      mostMs: 5_000,
      begin: async () => {
        await one.kill()
        return () => one.start()
      },
    },
    { name: `pause ${one.kind}`, mostMs: 25_000, begin: pause((signal) => one.signal(signal)) },
    ...(['database', 's3'] as const).flatMap((to) =>
      (['cut', 'stall'] as const).map((how) => ({
        name: `${how} ${one.kind} from ${to}`,
        mostMs: 20_000,
        begin: async () => {
          one[to][how]()
          return () => one[to].mend()
        },
      })),
    ),
  ]
  const databaseFaults: Fault[] = [
    {
      name: 'kill database',
      mostMs: 15_000,
      begin: async () => {
        await postgres.kill()
        return () => postgres.start()
      },
    },
    {
      name: 'pause database',
      mostMs: 15_000,
      begin: async () => {
        postgres.pause()
        return () => postgres.resume()
      },
    },
  ]
  const s3Faults: Fault[] = [
    {
      name: 'kill s3',
      mostMs: 10_000,
      begin: async () => {
        await s3.kill()
        return () => s3.start()
      },
    },
    { name: 'pause s3', mostMs: 15_000, begin: pause((signal) => s3.signal(signal)) },
  ]
  const things = [...processes.map(faultsOf), databaseFaults, s3Faults]
  const busy = new Set<readonly Fault[]>()
  const counts: Record<string, number> = {}
  const ending: Promise<void>[] = []
  const endsAtMs = performance.now() + seconds * 1000
  while (performance.now() < endsAtMs && !load.hasFailed) {
    const { least, most } = betweenFaultsMs
    await sleep(least + random() * (most - least))
    const thing = pick(things)
    const fault = pick(thing)
    const lastsMs = random() * fault.mostMs
    if (busy.has(thing)) continue
    busy.add(thing)
    counts[fault.name] = (counts[fault.name] ?? 0) + 1
    const end = await fault.begin()
    ending.push(
      sleep(lastsMs)
        .then(end)
        .then(() => void busy.delete(thing)),
    )
  }
  await Promise.all(ending)
  const { accepted, answers, unclear } = await load.stop()

  // The end: all is whole again, and what was accepted is brought to its end.
  const database = await openServerDatabase({ url: databaseUrl, onError: () => undefined })
  onTestFinished(() => database.close())
  const { prisma } = database
  const settled = { timeout: settleMs, interval: 500 }
  await expect.poll(() => prisma.generation.count({ where: { finishedAt: null } }), settled).toBe(0)
  const present = () => prisma.process.count({ where: { goneAt: null } })
  await expect.poll(present, settled).toBe(processes.length)

  const rows = await prisma.generation.findMany({ include: { images: true, events: true } })
  const byId = new Map(rows.map((row) => [row.id, row]))
  const ends = Object.groupBy(rows, ({ state, errorCode }) => errorCode ?? state)
  const faults = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const figures = Object.fromEntries(Object.entries(ends).map(([end, of = []]) => [end, of.length]))
  console.info({ seed, seconds, faults, counts, answers, accepted: accepted.size, ends: figures })

  expect(unclear).toEqual([])
  expect(faults).toBeGreaterThanOrEqual(Math.floor(seconds / 10))
  expect([...accepted.values()].filter(({ id }) => !byId.has(id))).toEqual([])
  // One of each key, and one end of each.
  expect(new Set([...accepted.values()].map(({ id }) => id)).size).toBe(accepted.size)
  expect(rows.length - accepted.size).toBeLessThanOrEqual(clients) // whose acceptance nobody heard of in the end
  for (const { id, state, count, images, events, errorCode, errorMessage } of rows) {
    const final = events.filter(({ type }) => ['succeeded', 'failed', 'cancelled'].includes(type))
    expect({ id, ends: final.map(({ type }) => type) }).toEqual({ id, ends: [state] })
    expect(events.map(({ sequence }) => sequence).toSorted((a, b) => a - b)).toEqual(
      events.map((_, i) => i + 1),
    )
    expect(images).toHaveLength(state === 'succeeded' ? count : 0)
    const error = errorCode ?? 'none'
    const clear = state === 'failed' ? ['server_failed', 'storage_failed', 'device_failed'] : ['none']
    expect({ id, error: clear.includes(error) && errorMessage !== '' ? 'clear' : error }).toEqual({
      id,
      error: 'clear',
    })
  }
  expect(figures['succeeded']).toBeGreaterThan(0.8 * rows.length)

  const installation = await openInstallation(database)
  process.env['AWS_ACCESS_KEY_ID'] = 'test'
  process.env['AWS_SECRET_ACCESS_KEY'] = 'test'
  const blobs = await S3Blobs.open({
    bucket: 'pictures',
    prefix: 'atelier',
    region: 'us-east-1',
    endpoint: `http://127.0.0.1:${s3.port}`,
    pathStyle: true,
    presign: false,
    installation: installation.id,
  })
  onTestFinished(() => blobs.close())
  const sums = new Map<number, Set<string>>()
  for (const { seed: picture, images } of rows) {
    for (const { blobKey, sha256 } of images) {
      const bytes = await buffer(await blobs.open(blobKey))
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256)
      const same = sums.get(Number(picture)) ?? new Set()
      sums.set(Number(picture), same.add(sha256))
    }
  }
  expect([...sums.values()].filter((same) => same.size > 1)).toEqual([])

  await sweepBlobs({ database, blobs }, { log: pino({ level: 'silent' }), safetyAgeMs: 0 })
  const kept = (await Array.fromAsync(blobs.list())).map(({ key }) => key)
  const told = rows.flatMap(({ images, events }) =>
    [...images, ...events].flatMap(({ blobKey }) => blobKey ?? []),
  )
  expect(kept.toSorted()).toEqual(told.toSorted())

  expect(
    await prisma.generation.count({ where: { OR: [{ claimed: true }, { heldBy: { not: null } }] } }),
  ).toBe(0)
  expect(await prisma.workerTask.count()).toBe(0)
  const jobs = await prisma.$queryRaw`SELECT id FROM pgboss.job WHERE name = 'generation'`
  expect(jobs).toEqual([])
})
