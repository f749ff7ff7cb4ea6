/** A job on the whole service, whose server is killed in the middle of it; what came of it is put live, outlives a restart, and is taken back. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { picture } from '../datasets/pictures.ts'
import { startServer, temporaryFolder } from '../e2e/server.ts'

test('a job survives the death of its server, and its deployment a restart', async () => {
  await using folder = await temporaryFolder()
  const root = join(folder.path, 'pictures')
  await mkdir(join(root, 'shades'), { recursive: true })
  for (let index = 0; index < 8; index++) {
    await writeFile(
      join(root, 'shades', `${index}.png`),
      await picture(30 * index, { width: 64, height: 64 }),
    )
    await writeFile(join(root, 'shades', `${index}.txt`), `shade number ${index}`)
  }
  const dataDir = join(folder.path, 'data')
  const environment = { ATELIER_DATASETS_ROOT: root, ATELIER_MAX_TRAIN_MICRO_STEP_MS: '60000' }
  const start = () => startServer({ dataDir, environment })
  const clientOf = ({ url }: { url: string }) => createAtelier({ baseUrl: url })
  const paint = async (atelier: Atelier): Promise<string> => {
    const { data } = await atelier.images.generate({ prompt: 'a kite', size: '256x256', seed: 4, steps: 2 })
    return createHash('sha256')
      .update((await atelier.images.content(data[0]!.id)).bytes)
      .digest('hex')
  }

  let server = await start()
  let atelier = clientOf(server)
  const before = await paint(atelier)
  const { id: datasetId } = await atelier.datasets.create({ name: 'shades', folder: 'shades' })
  await atelier.datasets.wait(datasetId)
  const { jobs } = atelier.fineTuning
  const [{ id: model } = { id: '' }] = (await atelier.models.list()).data
  const { id } = await jobs.create({
    model,
    dataset: datasetId,
    stages: [{ kind: 'align', resolution: 64, steps: 60, batch_size: 2, learning_rate: 0.01 }],
    checkpoint_every: 5,
  })
  await expect
    .poll(async () => (await jobs.retrieve(id)).progress.step, { timeout: 60_000, interval: 50 })
    .toBeGreaterThanOrEqual(12)
  await server.kill()

  server = await start()
  atelier = clientOf(server)
  const job = await atelier.fineTuning.jobs.waitFor(id)
  expect(job).toMatchObject({ status: 'succeeded', attempt: 2, progress: { step: 60, steps: 60 } })
  const metrics = await Array.fromAsync(atelier.fineTuning.jobs.metrics(id))
  expect(metrics.at(-1)?.step).toBe(60)
  expect(new Set(metrics.map(({ step }) => step)).size).toBe(metrics.length)
  const [newest] = await Array.fromAsync(atelier.fineTuning.checkpoints.list(id))
  await atelier.fineTuning.checkpoints.deploy(id, newest!.id, { name: model })
  const after = await paint(atelier)
  expect(after).not.toBe(before)
  expect(await server.stop()).toBe(0)

  server = await start()
  atelier = clientOf(server)
  expect((await atelier.models.retrieve(model)).origin?.job).toBe(id)
  expect(await paint(atelier)).toBe(after)
  await atelier.models.rollback(model)
  expect(await paint(atelier)).toBe(before)
  expect(await server.stop()).toBe(0)
})
