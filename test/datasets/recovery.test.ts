/** Property: whatever a process leaves that dies, the next one has no half a dataset: it goes on, or the dataset failed and has no files. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { tar } from './archives.ts'
import { useDatasets } from './fixture.ts'
import { picture } from './pictures.ts'

const datasets = useDatasets()
const idOf = (digit: string): string => `ds_${digit.repeat(32)}`

/** As a process leaves it that died at this moment. */
async function leave(
  row: { id: string; state: 'receiving' | 'validating'; attempt?: number },
  files: Readonly<Record<string, Buffer>>,
): Promise<void> {
  await datasets.storage.database.prisma.dataset.create({
    data: { project: 'default', name: 'left', source: 'upload', labels: 'auto', ...row },
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
  await leave({ id: idOf('a'), state: 'receiving' }, { upload: (await archive()).subarray(0, 600) })
  await datasets.start()
  expect(await datasets.settled(idOf('a'))).toMatchObject({ state: 'failed', error: { code: 'interrupted' } })
  expect(datasets.files()).toEqual([])
})

test('what was being checked is checked anew, without what the first check left', async () => {
  await leave(
    { id: idOf('b'), state: 'validating', attempt: 1 },
    {
      upload: await archive(),
      'unchecked-1/1': Buffer.from('half'),
      'pictures/ab/abc.png': Buffer.from('old'),
    },
  )
  const { prisma } = datasets.storage.database
  const common = { datasetId: idOf('b'), position: 0, path: 'old.png' }
  const picked = { width: 1, height: 1, sizeBytes: 1, format: 'png', sha256: '0'.repeat(64) }
  await prisma.datasetItem.create({ data: { ...common, ...picked, id: 'itm_old' } })
  await prisma.datasetProblem.create({
    data: { ...common, code: 'empty_caption', message: 'old', itemId: 'itm_old' },
  })
  await datasets.start()
  expect(await datasets.settled(idOf('b'))).toMatchObject({
    state: 'ready',
    counts: { items: 1, problems: 0 },
  })
  expect((await datasets.service.items(idOf('b'))).data.map(({ path }) => path)).toEqual(['a.png'])
  expect(datasets.files()).toHaveLength(1)
})

test('a dataset under which the server died three times has failed', async () => {
  await leave({ id: idOf('c'), state: 'validating', attempt: 3 }, { upload: await archive() })
  await datasets.start()
  expect(await datasets.settled(idOf('c'))).toMatchObject({
    state: 'failed',
    error: { code: 'server_failed' },
  })
  expect(datasets.files()).toEqual([])
})

test('files that belong to nothing are removed, and those of a ready dataset stay', async () => {
  await datasets.start()
  const { id } = await datasets.add(await archive())
  const before = datasets.files()
  await datasets.service.close()
  write(join(idOf('f'), 'pictures/ab/abc.png'), Buffer.from('x'))
  write(join(id, 'upload'), Buffer.from('x'))
  await datasets.start()
  expect(datasets.files()).toEqual(before)
})

test("whoever keeps folders of their own beside the datasets' keeps them", async () => {
  write('pets/a.png', Buffer.from('x'))
  await datasets.start({ foldersRoot: join(datasets.dataDir, 'datasets') })
  expect(datasets.files()).toEqual([join(datasets.dataDir, 'datasets', 'pets', 'a.png')])
  rmSync(join(datasets.dataDir, 'datasets', 'pets'), { recursive: true })
})

test('a dataset that waits for others to be checked is deleted without waiting for them', async () => {
  const pictures = await Promise.all(Array.from({ length: 30 }, (_, shade) => picture(shade)))
  const upload = tar(pictures.map((data, index) => ({ name: `${index}.png`, data })))
  await leave({ id: idOf('1'), state: 'validating' }, { upload })
  await leave({ id: idOf('2'), state: 'validating' }, { upload })
  await datasets.start()
  const order: string[] = []
  await Promise.all([
    datasets.settled(idOf('1')).then(({ state }) => order.push(state)),
    datasets.service.delete(idOf('2')).then((wasThere) => order.push(`deleted: ${wasThere}`)),
  ])
  expect(order).toEqual(['deleted: true', 'ready'])
  expect(datasets.files()).toHaveLength(30)
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
  await leave({ id: idOf('d'), state: 'validating' }, { upload: await archive() })
  for (let starts = 0; starts < 5; starts++) {
    await datasets.start()
    await datasets.service.close()
  }
  await datasets.start()
  expect(await datasets.settled(idOf('d'))).toMatchObject({ state: 'ready' })
})

function wholly(bytes: Buffer): PassThrough {
  const stream = new PassThrough()
  stream.end(bytes)
  return stream
}
