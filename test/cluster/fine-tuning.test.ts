/** A job whose worker is gone goes on elsewhere, from its last checkpoint, and ends once. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { startDatasetService } from '../../src/datasets/service.ts'
import { startFineTuningService } from '../../src/fine-tuning/service.ts'
import { FineTuningRuns } from '../../src/fine-tuning/runs.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { owned } from '../access/owned.ts'
import { picture } from '../datasets/pictures.ts'
import { configured, log, smallStage } from '../fine-tuning/fixture.ts'
import { practicePool } from '../fine-tuning/practice-pool.ts'
import { serverDatabase } from '../postgres/database.ts'
import { temporaryFolder } from '../storage/folders.ts'

const patience = { timeout: 60_000, interval: 50 }
const request = {
  requestId: 'req',
  model: 'tiny-512',
  onBadData: 'fail' as const,
  specification: { seed: 1, checkpointEvery: 2, stages: [{ ...smallStage, steps: 6 }] },
}

/** Workers that share a database and a folder. */
async function startWorkers() {
  const [databaseUrl, dataDir] = [await serverDatabase(), temporaryFolder()]
  const foldersRoot = join(dataDir, 'sources')
  mkdirSync(foldersRoot)
  return async () => {
    const onError = (error: Error) => {
      throw error
    }
    const storage = await openStorage({ dataDir, databaseUrl, kind: 'worker', onError })
    const datasets = owned(await startDatasetService({ storage, log, dataDir, foldersRoot }))
    const pool = practicePool()
    const service = owned(
      await startFineTuningService({
        storage,
        pool,
        datasets,
        log,
        dataDir,
        configured,
        rates: { watts: 100, gramsPerKwh: 480, costPerDeviceHour: undefined },
        gpus: [],
        sources: undefined,
        maxMicroStepMs: 1e6,
      }),
    )
    let stopping: Promise<void> | undefined
    const stop = () => (stopping ??= service.close())
    onTestFinished(async () => {
      await stop()
      await datasets.close()
      await storage.close()
    })
    return { storage, datasets, pool, service, foldersRoot, stop }
  }
}

type Started = Awaited<ReturnType<Awaited<ReturnType<typeof startWorkers>>>>

async function addDataset({ datasets, foldersRoot }: Started): Promise<string> {
  const folder = join(foldersRoot, 'small')
  mkdirSync(folder)
  for (let index = 0; index < 4; index++) {
    writeFileSync(join(folder, `${index}.png`), await picture(20 * index))
    writeFileSync(join(folder, `${index}.txt`), `picture number ${index}`)
  }
  const { id } = await datasets.fromFolder({ name: 'small', folder: 'small', labels: 'auto' })
  await datasets.settled(id)
  return id
}

test('a job of a worker that is declared gone goes on elsewhere; what the first one still tells is not written', async () => {
  const start = await startWorkers()
  const first = await start()
  const letGo = Promise.withResolvers<void>()
  let held = 0
  first.pool.beforeStep = (step) => (step === 4 && held++ === 0 ? letGo.promise : undefined)
  const { id } = await first.service.create({ ...request, datasetId: await addDataset(first) })
  const progress = async () => (await first.service.find(id))!.progress.step
  await expect.poll(progress, patience).toBe(3)
  const second = await start()
  await first.storage.database.prisma.process.update({
    where: { id: first.storage.presence.id },
    data: { goneAt: new Date() },
  })
  const state = async () => (await second.service.find(id))!.state
  await expect.poll(state, patience).toBe('succeeded')
  // By the second one, or by the first under a new name.
  expect([...first.pool.begun.slice(1), ...second.pool.begun]).toEqual([{ id, after: 2 }])
  letGo.resolve()
  // The first one has a new name by now, and works on.
  const next = await first.service.create({
    ...request,
    datasetId: (await second.service.find(id))!.datasetId,
  })
  await expect.poll(async () => (await first.service.find(next.id))!.state, patience).toBe('succeeded')
  const events = (await second.service.events(id, { limit: 100 })).data.map(({ details }) => details.type)
  expect(events.filter((type) => type === 'succeeded')).toHaveLength(1)
  expect((await second.service.find(id))!.attempt).toBe(2)
})

test('a job whose claim nobody heard of is claimed again, and one whose validation was not told is validated', async () => {
  const start = await startWorkers()
  const worker = await start()
  const datasetId = await addDataset(worker)
  await worker.stop()
  const runs = new FineTuningRuns(worker.storage)
  const { id } = await worker.service.create({ ...request, datasetId })
  const rows = worker.storage.database.prisma.fineTuningJob
  const state = async () => (await rows.findUniqueOrThrow({ where: { id } })).state
  await expect.poll(state, patience).toBe('queued')
  expect(await runs.claim()).toMatchObject({ id, attempt: 1 }) // and nobody runs it
  expect(await runs.claim()).toMatchObject({ id, attempt: 2 })
  const heldBy = worker.storage.presence.id
  await rows.update({ where: { id }, data: { state: 'validating', heldBy } })
  expect(await runs.takeBack()).toEqual({ failed: [], validating: [id] })
})
