/** The service over one prepared storage for a test file, started anew for each test. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll } from 'vitest'
import type { Dataset } from '../../src/datasets/dataset.ts'
import {
  startDatasetService,
  type DatasetService,
  type DatasetServiceOptions,
} from '../../src/datasets/service.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { owned, type With } from '../access/owned.ts'
import { preparedFolder } from '../storage/prepared-folder.ts'

export interface DatasetFixture {
  readonly storage: Storage
  readonly service: With<DatasetService>
  readonly dataDir: string
  start(options?: Partial<DatasetServiceOptions>): Promise<void>
  /** Uploads and waits for the check to end. */
  add(bytes: Buffer, wish?: { name?: string; labels?: 'auto' | 'folders' | 'none' }): Promise<Dataset>
  settled(id: string): Promise<Dataset>
  /** Paths of all files below the folder of datasets. */
  files(): string[]
}

export function useDatasets(): DatasetFixture {
  const log = pino({ level: 'silent' })
  let dataDir: string
  let storage: Storage
  let service: With<DatasetService> | undefined

  beforeAll(async () => {
    dataDir = await preparedFolder()
    const onError = (error: Error) => {
      throw error
    }
    storage = await openStorage({ dataDir, onError })
  })
  afterEach(async () => {
    await service?.close()
    service = undefined
    await storage.database.prisma.dataset.deleteMany()
  })
  afterAll(() => storage.close())

  const started = () => {
    if (!service) throw new Error('the service is not started')
    return service
  }
  const settled = async (id: string) => {
    const dataset = await started().settled(id)
    if (!dataset) throw new Error(`there is no dataset ${id}`)
    return dataset
  }
  return {
    get storage() {
      return storage
    },
    get service() {
      return started()
    },
    get dataDir() {
      return dataDir
    },
    async start(options = {}) {
      service = owned(await startDatasetService({ storage, log, dataDir, foldersRoot: '', ...options }))
    },
    async add(bytes, wish = {}) {
      const { id } = await started().upload(
        { name: 'a set', ...wish },
        { stream: Readable.from(pieces(bytes)) },
      )
      return settled(id)
    },
    settled,
    files: () => filesBelow(join(dataDir, 'datasets')),
  }
}

export const filesBelow = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => join(parentPath, name))
        .sort()
    : []

/** As a network has it. */
export function* pieces(bytes: Buffer, length = 1000): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += length) yield bytes.subarray(start, start + length)
}
