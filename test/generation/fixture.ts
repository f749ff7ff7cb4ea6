/** The service over one prepared storage for a test file, with a painting pool that each test sets up as it needs it. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll } from 'vitest'
import type { GenerationEvent } from '../../src/generation/events.ts'
import {
  startGenerationService,
  type CreateOptions,
  type GenerationService,
} from '../../src/generation/service.ts'
import type { Window } from '../../src/generation/turns.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { owned, type With } from '../access/owned.ts'
import { storagePlace } from '../postgres/database.ts'
import { paintPool, type PaintOptions, type PaintPool } from './paint-pool.ts'
import { someParameters } from './parameters.ts'

/** A sweep at every start, of everything. */
const sweep = { everyMs: 0, safetyAgeMs: 0 }

export interface StartOptions extends PaintOptions {
  readonly maxWaitMs?: number
  readonly window?: Partial<Window>
}

export interface Fixture {
  readonly storage: Storage
  readonly service: With<GenerationService>
  readonly pool: PaintPool
  start(options?: StartOptions): Promise<void>
  /** @returns the new generation's id */
  create(changes?: Parameters<typeof someParameters>[0], options?: Partial<CreateOptions>): Promise<string>
  /** The ids of all files under blobs/, unfinished ones too. */
  files(): string[]
}

export function useService(): Fixture {
  const log = pino({ level: 'silent' })
  let dataDir: string
  let storage: Storage
  let service: With<GenerationService> | undefined
  let pool: PaintPool

  beforeAll(async () => {
    const place = await storagePlace()
    dataDir = place.dataDir
    const onError = (error: Error) => {
      throw error
    }
    storage = await openStorage({ ...place, onError })
  })
  afterEach(async () => {
    await service?.close()
    service = undefined
    await storage.database.prisma.generation.deleteMany()
  })
  afterAll(() => storage.close())

  const started = () => {
    if (!service) throw new Error('the service is not started')
    return service
  }
  return {
    get storage() {
      return storage
    },
    get service() {
      return started()
    },
    get pool() {
      return pool
    },
    async start({ maxWaitMs = 1e9, window = {}, ...paint } = {}) {
      pool = paintPool(paint)
      service = owned(await startGenerationService({ storage, pool, log, maxWaitMs, window, sweep }))
      await service.swept
    },
    async create(changes = {}, options = {}) {
      const { generation } = await started().create(someParameters(changes), { requestId: 'req', ...options })
      return generation.id
    },
    files: () =>
      readdirSync(join(dataDir, 'blobs'), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }) => name),
  }
}

/** A gate that requests wait at until it is opened. */
export function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { passed: promise, open: resolve }
}

export const types = (events: readonly GenerationEvent[]): string[] => events.map(({ type }) => type)
