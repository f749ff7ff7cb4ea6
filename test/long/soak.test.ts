/** Hours are not had, so twenty minutes: under steady load no process grows once it is warm. */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { startLoad } from '../cluster/load.ts'
import { startProcess, type ServiceProcess } from '../cluster/processes.ts'
import { startS3Process } from '../cluster/s3-process.ts'
import { childrenOf } from '../e2e/server.ts'
import { startPostgres } from '../postgres/server.ts'
import { temporaryFolder } from '../storage/folders.ts'

const seconds = Number(process.env['ATELIER_TEST_SOAK_SECONDS'] ?? 1_200)
/** The first five minutes of twenty. */
const warmShare = 0.25
const sampleEveryMs = 2_000
const clients = 6
const mostGrowth = 0.05

/** Of what is compared: the middle value of this share of the samples at either end. */
const endShare = 0.2
const middle = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

async function residentMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
}

test(`${seconds} s of load: no process grows by more than ${100 * mostGrowth} % after the first quarter`, async () => {
  const postgres = await startPostgres()
  onTestFinished(() => postgres.stop())
  const s3 = await startS3Process(temporaryFolder())
  onTestFinished(() => s3.kill())
  const surroundings = {
    dataDir: temporaryFolder(),
    databaseUrl: await postgres.createDatabase(),
    s3Port: s3.port,
    environment: {
      ATELIER_REQUESTS_PER_MINUTE: '0',
      ATELIER_DEVICES: 'cpu:0-0',
      ATELIER_LOG_LEVEL: 'error',
    },
  }
  const processes: ServiceProcess[] = []
  onTestFinished(async () => void (await Promise.all(processes.map((one) => one.close()))))
  for (const kind of ['worker', 'worker', 'api', 'api'] as const)
    processes.push(await startProcess(kind, surroundings))
  const pids = await Promise.all(
    processes.map(async ({ kind, pid }) => [
      [kind, pid] as const,
      ...(await childrenOf(pid)).map((child) => [`${kind}'s device`, child] as const),
    ]),
  )
  const samples = new Map(pids.flat().map(([name, pid]) => [pid, { name, mib: [] as number[] }]))

  const load = startLoad(
    processes.filter(({ kind }) => kind === 'api'),
    clients,
  )
  const startedAtMs = performance.now()
  const endsAtMs = startedAtMs + seconds * 1_000
  while (performance.now() < endsAtMs && !load.hasFailed) {
    await sleep(sampleEveryMs)
    if (performance.now() < startedAtMs + warmShare * seconds * 1_000) continue
    for (const [pid, { mib }] of samples) mib.push(await residentMib(pid))
  }
  const { accepted, answers, unclear } = await load.stop()
  const growth = [...samples.values()].map(({ name, mib }) => {
    const few = Math.max(1, Math.floor(mib.length * endShare))
    const [first, last] = [middle(mib.slice(0, few)), middle(mib.slice(-few))]
    return { name, first: Math.round(first), last: Math.round(last), growth: last / first - 1 }
  })
  console.info({ seconds, accepted: accepted.size, answers })
  console.table(growth)
  expect(unclear).toEqual([])
  expect(accepted.size).toBeGreaterThan(seconds / 10)
  expect(growth.filter(({ growth }) => !(growth <= mostGrowth))).toEqual([])
})
