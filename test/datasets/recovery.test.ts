/** Property: whatever a process leaves that dies, the next one has no half a dataset: it goes on, or the dataset failed and has no files. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { tar } from './archives.ts'
import { useDatasets } from './fixture.ts'
import { picture } from './pictures.ts'

const datasets = useDatasets()

/** As a process leaves it that died at this moment. */
async function leave(
  row: { id: string; state: 'receiving' | 'validating'; attempt?: number },
  files: Readonly<Record<string, Buffer>>,
): Promise<void> {
  await datasets.storage.database.prisma.dataset.create({
    data: { name: 'left', source: 'upload', labels: 'auto', ...row },
  })
  for (const [name, bytes] of Object.entries(files)) write(join(row.id, name), bytes)
}

function write(name: string, bytes: Buffer): void {
  const file = join(datasets.dataDir, 'datasets', name)
  mkdirSync(join(file, '..'), { recursive: true })
  writeFileSync(file, bytes)
}

const archive = async () =>
  tar([
    { name: 'a.png', data: await picture(1) },
    { name: 'a.txt', data: 'one' },
  ])

test('an upload that was coming has failed, and its files are gone', async () => {
  await leave({ id: 'ds_a', state: 'receiving' }, { upload: (await archive()).subarray(0, 600) })
  await datasets.start()
  expect(await datasets.settled('ds_a')).toMatchObject({ state: 'failed', error: { code: 'interrupted' } })
  expect(datasets.files()).toEqual([])
})

test('what was being checked is checked anew, without what the first check left', async () => {
  await leave(
    { id: 'ds_b', state: 'validating', attempt: 1 },
    {
      upload: await archive(),
      'unchecked/1': Buffer.from('half'),
      'pictures/ab/abc.png': Buffer.from('old'),
    },
  )
  const { prisma } = datasets.storage.database
  const common = { datasetId: 'ds_b', position: 0, path: 'old.png' }
  const picked = { width: 1, height: 1, sizeBytes: 1, format: 'png', sha256: '0'.repeat(64) }
  await prisma.datasetItem.create({ data: { ...common, ...picked, id: 'itm_old' } })
  await prisma.datasetProblem.create({
    data: { ...common, code: 'empty_caption', message: 'old', itemId: 'itm_old' },
  })
  await datasets.start()
  expect(await datasets.settled('ds_b')).toMatchObject({ state: 'ready', counts: { items: 1, problems: 0 } })
  expect((await datasets.service.items('ds_b')).data.map(({ path }) => path)).toEqual(['a.png'])
  expect(datasets.files()).toHaveLength(1)
})

test('a dataset under which the server died three times has failed', async () => {
  await leave({ id: 'ds_c', state: 'validating', attempt: 3 }, { upload: await archive() })
  await datasets.start()
  expect(await datasets.settled('ds_c')).toMatchObject({ state: 'failed', error: { code: 'server_failed' } })
  expect(datasets.files()).toEqual([])
})

test('files that belong to nothing are removed, and those of a ready dataset stay', async () => {
  await datasets.start()
  const { id } = await datasets.add(await archive())
  const before = datasets.files()
  await datasets.service.close()
  write('ds_unknown/pictures/ab/abc.png', Buffer.from('x'))
  write(join(id, 'upload'), Buffer.from('x'))
  await datasets.start()
  expect(datasets.files()).toEqual(before)
})

test('a server that shuts down ends uploads, and goes on with checks at its next start', async () => {
  await datasets.start()
  const stream = new PassThrough()
  const upload = datasets.service.upload({ name: 'x' }, { stream })
  stream.write((await archive()).subarray(0, 600))
  const { id } = await datasets.service.upload({ name: 'y' }, { stream: wholly(await archive()) })
  const [ended] = await Promise.allSettled([upload, datasets.service.close()])
  expect(ended).toMatchObject({ reason: { code: 'shutting_down' } })
  await expect(
    datasets.service.upload({ name: 'z' }, { stream: wholly(await archive()) }),
  ).rejects.toMatchObject({
    code: 'shutting_down',
  })
  await datasets.start()
  expect(await datasets.settled(id)).toMatchObject({ state: 'ready' })
  expect((await datasets.service.list()).data).toHaveLength(1)
})

test('a server that is started again and again in order is no cause for a dataset to fail', async () => {
  await leave({ id: 'ds_d', state: 'validating' }, { upload: await archive() })
  for (let starts = 0; starts < 5; starts++) {
    await datasets.start()
    await datasets.service.close()
  }
  await datasets.start()
  expect(await datasets.settled('ds_d')).toMatchObject({ state: 'ready' })
})

function wholly(bytes: Buffer): PassThrough {
  const stream = new PassThrough()
  stream.end(bytes)
  return stream
}
