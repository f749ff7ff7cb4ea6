/** The built application over the real service, storage and encoder, with a pool that paints; for route tests. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import responseValidation from '@fastify/response-validation'
import type { FastifyInstance } from 'fastify'
import { pino, type Logger } from 'pino'
import { startAccessService, type AccessService } from '../../src/access/service.ts'
import { readConfig, type Config } from '../../src/config.ts'
import {
  startDatasetService,
  type DatasetService,
  type DatasetServiceOptions,
} from '../../src/datasets/service.ts'
import { startGenerationService, type GenerationService } from '../../src/generation/service.ts'
import { buildApp, type AppDependencies } from '../../src/http/app.ts'
import { createAjv } from '../../src/http/validation.ts'
import type { PowerMeter } from '../../src/energy/power.ts'
import { noPolicy, type ContentPolicy } from '../../src/policy/service.ts'
import type { Tracing } from '../../src/tracing/tracing.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { owned, type With } from '../access/owned.ts'
import { prepare } from '../storage/prepared-folder.ts'
import { paintPool, type PaintOptions, type PaintPool } from '../generation/paint-pool.ts'
import { idleFineTuning, noKeys, unreachableDatasets, unreachableWebhooks } from './unreachable.ts'

export const silent: Logger = pino({ level: 'silent' })

export interface TestService {
  readonly access: AccessService
  readonly storage: Storage
  readonly generation: With<GenerationService>
  readonly datasets: With<DatasetService>
  readonly pool: PaintPool
  close(): Promise<void>
}

export async function startTestService(
  options: PaintOptions & {
    maxWaitMs?: number
    datasets?: Partial<DatasetServiceOptions>
    policy?: ContentPolicy
    log?: Logger
    power?: PowerMeter
    tracing?: Tracing
  } = {},
): Promise<TestService> {
  const {
    maxWaitMs = 600_000,
    datasets: datasetOptions,
    policy = noPolicy,
    log = silent,
    power,
    tracing,
    ...paint
  } = options
  const dataDir = await mkdtemp(join(tmpdir(), 'atelier-http-'))
  await prepare(dataDir)
  const unexpected: Error[] = []
  const storage = await openStorage({ dataDir, onError: (error) => unexpected.push(error) })
  const access = await startAccessService({ database: storage.database, log: silent })
  const pool = paintPool(paint)
  const generation = owned(
    await startGenerationService({
      storage,
      pool,
      log,
      policy,
      power,
      tracing,
      maxWaitMs,
      window: { images: 2 },
    }),
  )
  const datasets = owned(
    await startDatasetService({
      storage,
      log: silent,
      dataDir,
      foldersRoot: '',
      ...datasetOptions,
    }),
  )
  return {
    access,
    storage,
    generation,
    datasets,
    pool,
    async close() {
      await datasets.close()
      await generation.close()
      await access.close()
      await storage.close()
      await rm(dataDir, { recursive: true })
      if (unexpected.length > 0) throw new AggregateError(unexpected, 'the queue reported errors')
    },
  }
}

export const testConfig = (environment: Record<string, string> = {}): Config => readConfig(environment)

/** An application whose every answer is held against openapi.yaml: one that breaks it becomes a 500. */
export async function buildTestApp(
  generation: GenerationService,
  overrides: Partial<AppDependencies> = {},
): Promise<FastifyInstance> {
  const app = await buildApp({
    access: noKeys,
    generation,
    datasets: unreachableDatasets,
    fineTuning: idleFineTuning,
    config: testConfig(),
    webhooks: unreachableWebhooks,
    urlKey: new Uint8Array(32).fill(7),
    logger: silent,
    drainMs: 0,
    extend: async (app) => {
      await app.register(responseValidation, { ajv: createAjv(), responseStatusCodeValidation: true })
    },
    ...overrides,
  })
  await app.ready()
  return app
}

/** Listens on a free port; returns the address. */
export async function listen(app: FastifyInstance): Promise<string> {
  return app.listen({ host: '127.0.0.1', port: 0 })
}
