/** Workers in processes of their own over a shared database, and what they did as the database tells it. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { expect } from 'vitest'
import { viewOf } from '../../src/engine/pool.ts'
import { startGenerationService, type GenerationService } from '../../src/generation/service.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { owned, type With } from '../access/owned.ts'
import { paintModel } from '../generation/paint-pool.ts'
import { someParameters } from '../generation/parameters.ts'
import { startChild, temporaryFolder, type Child } from '../storage/folders.ts'

export interface WorkerProcess extends Child {
  /** Under which it began to hold generations. */
  readonly id: string
}

export interface Cluster extends AsyncDisposable {
  readonly storage: Storage
  /** Without devices, as an API process has it. */
  readonly service: With<GenerationService>
  /** With this time for every step. */
  startWorker(stepMs: number): Promise<WorkerProcess>
  /** @returns the new generation's id */
  create(changes?: Parameters<typeof someParameters>[0]): Promise<string>
  /** Who is at work on it. */
  holderOf(id: string): Promise<string | undefined>
  /** Names of all files under blobs/, unfinished ones too. */
  files(): string[]
}

const patience = { timeout: 60_000, interval: 50 }

/** As measured: a straight line is enough for a plan. */
const line = { baseMs: 0, perUnitMs: 0.01 }
const served = {
  info: paintModel,
  costs: { loadMs: 0, encode: line, step: line, decode: [line] },
  memory: { weightBytes: { textEncoder: 0, transformer: 0, vae: 0 }, bytesPerRowToken: 0, limitBytes: 1e9 },
}

export async function startCluster(databaseUrl: string): Promise<Cluster> {
  const dataDir = temporaryFolder()
  const log = pino({ level: process.env['ATELIER_TEST_LOG'] ?? 'silent' })
  const storage = await openStorage({
    dataDir,
    databaseUrl,
    kind: 'api',
    onError: (error) => log.warn({ err: error }, 'the database reports'),
  })
  const pool = viewOf(
    () => [served],
    () => [],
  )
  const service = owned(await startGenerationService({ storage, pool, log, maxWaitMs: 1e9 }))
  const script = fileURLToPath(new URL('worker-child.ts', import.meta.url))
  return {
    storage,
    service,
    async startWorker(stepMs) {
      const child = startChild(script, [dataDir, databaseUrl, String(stepMs)])
      const { value } = await child.lines.next()
      expect(value).toMatch(/^worker_/)
      return Object.assign(child, { id: value as string })
    },
    async create(changes = {}) {
      const { generation } = await service.create(someParameters(changes), { requestId: 'req' })
      return generation.id
    },
    async holderOf(id) {
      const row = await storage.database.prisma.generation.findUniqueOrThrow({ where: { id } })
      return row.state === 'running' ? (row.heldBy ?? undefined) : undefined
    },
    files: () =>
      readdirSync(join(dataDir, 'blobs'), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }) => name),
    async [Symbol.asyncDispose]() {
      await service.close()
      await storage.close()
    },
  }
}

export interface Takeover {
  readonly victim: WorkerProcess
  readonly tookMs: number
  readonly generation: string
}

/** Kills or stops whoever runs a long generation. @returns the milliseconds until another one runs it */
export async function measureTakeover(
  cluster: Cluster,
  workers: readonly WorkerProcess[],
  signal: 'SIGKILL' | 'SIGSTOP',
): Promise<Takeover> {
  const generation = await cluster.create({ steps: 100 })
  const runner = async () => {
    const holder = await cluster.holderOf(generation)
    return workers.find(({ id }) => id === holder)
  }
  await expect.poll(runner, patience).toBeDefined()
  const victim = (await runner())!
  const sinceMs = performance.now()
  victim.process.kill(signal)
  const isElsewhere = async () => {
    const holder = await cluster.holderOf(generation)
    return holder !== undefined && holder !== victim.id
  }
  await expect.poll(isElsewhere, patience).toBe(true)
  return { victim, tookMs: performance.now() - sinceMs, generation }
}
