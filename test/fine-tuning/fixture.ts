/** The services of datasets and jobs over one prepared storage for a test file, and a small dataset in it. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, beforeAll } from 'vitest'
import { startDatasetService, type DatasetService } from '../../src/datasets/service.ts'
import type { ModelFolder, Pool } from '../../src/engine/pool.ts'
import { datasetInUse } from '../../src/fine-tuning/datasets.ts'
import type { FineTuningEvent } from '../../src/fine-tuning/events.ts'
import type { FineTuningJob } from '../../src/fine-tuning/job.ts'
import {
  startFineTuningService,
  type FineTuningServiceOptions,
  type FineTuningService,
  type JobRequest,
} from '../../src/fine-tuning/service.ts'
import type { JobSpecification } from '../../src/fine-tuning/specification.ts'
import { isFinal, type FineTuningState } from '../../src/fine-tuning/states.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { picture } from '../datasets/pictures.ts'
import { owned, type With } from '../access/owned.ts'
import { storagePlace } from '../postgres/database.ts'
import { goldenBase } from '../training/small-run.ts'

export const configured: readonly [ModelFolder] = [{ name: 'tiny-512', folder: goldenBase('tiny-512') }]

export const log = pino({ level: process.env['ATELIER_TEST_LOG'] ?? 'silent' })

export interface Fixture {
  readonly dataDir: string
  readonly storage: Storage
  readonly datasets: With<DatasetService>
  readonly service: With<FineTuningService>
  /** Of twelve pictures with captions and labels. */
  readonly datasetId: string
  /** Starts the service, or starts it anew, as a server does. */
  start(
    pool: Pool,
    options?: Pick<FineTuningServiceOptions, 'policy' | 'tracing'>,
  ): Promise<With<FineTuningService>>
  /** Writes a folder of files and makes a dataset of it. */
  addDataset(name: string, files: Readonly<Record<string, string | Buffer>>): Promise<string>
  create(specification?: Partial<JobSpecification>, request?: Partial<JobRequest>): Promise<FineTuningJob>
  until(id: string, ...states: FineTuningState[]): Promise<FineTuningJob>
  eventsOf(id: string): Promise<FineTuningEvent[]>
}

/** How long a test waits for a state. */
const patienceMs = 60_000

/** Two steps of two pictures, as small as they come. */
export const smallStage = {
  kind: 'align',
  resolution: 16,
  steps: 2,
  batchSize: 2,
  learningRate: 1e-3,
} as const

export function useFineTuning(): Fixture {
  let dataDir: string
  let storage: Storage
  let datasets: With<DatasetService>
  let datasetId: string
  let service: With<FineTuningService> | undefined

  async function addDataset(name: string, files: Readonly<Record<string, string | Buffer>>): Promise<string> {
    const folder = join(dataDir, 'sources', name)
    await mkdir(folder, { recursive: true })
    for (const [path, content] of Object.entries(files)) await writeFile(join(folder, path), content)
    const { id } = await datasets.fromFolder({ name, folder: name, labels: 'auto' })
    await datasets.settled(id)
    return id
  }

  beforeAll(async () => {
    const place = await storagePlace()
    dataDir = place.dataDir
    const onError = (error: Error) => {
      throw error
    }
    storage = await openStorage({ ...place, onError })
    await mkdir(join(dataDir, 'sources'))
    await mkdir(join(dataDir, 'dits', 'one'), { recursive: true })
    datasets = owned(
      await startDatasetService({
        storage,
        log,
        dataDir,
        foldersRoot: join(dataDir, 'sources'),
        inUse: datasetInUse,
      }),
    )
    const pictures = await Promise.all(Array.from({ length: 12 }, (_, index) => picture(20 * index)))
    const lines = pictures.map((_, index) =>
      JSON.stringify({
        file_name: `${index}.png`,
        text: `picture number ${index}`,
        label: `label ${index % 3}`,
        aesthetic_score: index / 2,
      }),
    )
    datasetId = await addDataset('small', {
      ...Object.fromEntries(pictures.map((bytes, index) => [`${index}.png`, bytes])),
      'captions.jsonl': `${lines.join('\n')}\n`,
    })
  })
  afterAll(async () => {
    await service?.close()
    await datasets.close()
    await storage.close()
  })

  const started = () => {
    if (!service) throw new Error('the service is not started')
    return service
  }
  return {
    get dataDir() {
      return dataDir
    },
    get storage() {
      return storage
    },
    get datasets() {
      return datasets
    },
    get service() {
      return started()
    },
    get datasetId() {
      return datasetId
    },
    async start(pool, options = {}) {
      await service?.close()
      service = undefined
      service = owned(
        await startFineTuningService({
          storage,
          pool,
          datasets,
          log,
          dataDir,
          configured,
          rates: { watts: 100, gramsPerKwh: 480, costPerDeviceHour: 2 },
          gpus: [],
          sources: join(dataDir, 'dits'),
          maxMicroStepMs: 1e6,
          ...options,
        }),
      )
      return service
    },
    addDataset,
    create(specification = {}, request = {}) {
      return started().create({
        requestId: 'req',
        model: 'tiny-512',
        datasetId,
        onBadData: 'fail',
        specification: { seed: 1, stages: [smallStage], ...specification },
        ...request,
      })
    },
    async until(id, ...states) {
      for (const end = Date.now() + patienceMs; Date.now() < end; await sleep(20)) {
        const job = await started().find(id)
        if (!job) throw new Error(`there is no job ${id}`)
        if (states.includes(job.state)) return job
        if (isFinal(job.state))
          throw new Error(`the job is ${job.state}: ${job.error?.message ?? 'no error'}`)
      }
      throw new Error(`the job is ${(await started().find(id))?.state ?? 'gone'}`)
    },
    async eventsOf(id) {
      const { data } = await started().events(id, { limit: 100 })
      return data.toReversed()
    },
  }
}
