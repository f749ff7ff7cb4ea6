/** A dataset's life in the service: it comes, is checked, looked at, edited, snapshot and deleted. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import sharp from 'sharp'
import { expect, test, vi } from 'vitest'
import { itemIdOf } from '../../src/datasets/join.ts'
import { readManifest } from '../../src/training/data/manifest.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { tar, zip } from './archives.ts'
import { useDatasets } from './fixture.ts'
import { hollowPng, picture } from './pictures.ts'

const datasets = useDatasets()

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

const someFiles = async () => [
  { name: 'cats/b.png', data: await picture(1) },
  { name: 'cats/b.txt', data: 'a cat' },
  { name: 'dogs/a.jpg', data: await picture(2, { format: 'jpeg', width: 64, height: 32 }) },
  { name: 'dogs/a.txt', data: '  ' },
  { name: 'broken.png', data: (await picture(3)).subarray(0, 60) },
]

const theOnly = () =>
  vi.waitFor(async () => {
    const [first] = (await datasets.service.list()).data
    if (!first) throw new Error('there is no dataset yet')
    return first
  })

test('an upload is checked, counted and kept under names of its own', async () => {
  await datasets.start()
  const files = await someFiles()
  const dataset = await datasets.add(tar(files), { name: 'pets' })
  expect(dataset).toMatchObject({
    name: 'pets',
    state: 'ready',
    source: { kind: 'upload', receivedBytes: tar(files).length },
    counts: { filesRead: 5, items: 2, captioned: 1, labelled: 2, scored: 0, problems: 2, leftOut: 1 },
  })
  const { data } = await datasets.service.items(dataset.id)
  expect(
    data.map(({ path, captions, label, problems }) => [
      path,
      captions,
      label,
      problems.map(({ code }) => code),
    ]),
  ).toEqual([
    ['cats/b.png', ['a cat'], 'cats', []],
    ['dogs/a.jpg', [], 'dogs', ['empty_caption']],
  ])
  const hashes = [files[0], files[2]].map((file) => sha256(Buffer.from(file?.data ?? '')))
  expect(datasets.files().map((file) => file.split('/').at(-1))).toEqual(
    [`${hashes[0]}.png`, `${hashes[1]}.jpeg`].sort((a, b) => (a < b ? -1 : 1)),
  )
  const first = data[0]
  if (!first) throw new Error('no picture')
  expect(sha256(await buffer(await datasets.service.openPicture(first)))).toBe(hashes[0])
  const small = await sharp(await datasets.service.thumbnail(first, 12)).metadata()
  expect([small.format, small.width, small.height]).toEqual(['webp', 12, 8])
})

test('a snapshot is a manifest that training reads, in the order of paths', async () => {
  await datasets.start()
  const { id } = await datasets.add(zip(await someFiles()))
  const file = join(temporaryFolder(), 'manifest.jsonl')
  expect(await datasets.service.snapshot(id, file)).toEqual({
    items: 2,
    captioned: 1,
    labelled: 2,
    scored: 0,
    labels: 2,
    leftOut: 1,
    badCaptions: 1,
  })
  const items = await Array.fromAsync(readManifest(file))
  expect(
    items.map(({ id, captions, label, width, height }) => ({ id, captions, label, width, height })),
  ).toEqual([
    { id: itemIdOf(items[0]?.sha256 ?? ''), captions: ['a cat'], label: 'cats', width: 24, height: 16 },
    { id: itemIdOf(items[1]?.sha256 ?? ''), captions: [], label: 'dogs', width: 64, height: 32 },
  ])
  for (const item of items) expect(sha256(await readFile(item.file))).toBe(item.sha256)
})

test('captions, label and score are changed, and the counts with them', async () => {
  await datasets.start()
  const { id } = await datasets.add(tar(await someFiles()))
  const { data } = await datasets.service.items(id)
  const dog = data[1]?.id ?? ''
  const changed = await datasets.service.changeItem(id, dog, {
    captions: ['a dog', 'a hound'],
    label: null,
    aestheticScore: 7,
  })
  expect(changed).toMatchObject({ captions: ['a dog', 'a hound'], label: undefined, aestheticScore: 7 })
  expect(await datasets.service.get(id)).toMatchObject({ counts: { captioned: 2, labelled: 1, scored: 1 } })
  expect(await datasets.service.labels(id)).toEqual([{ label: 'cats', items: 1 }])
  await datasets.service.changeItem(id, dog, { captions: [] })
  expect(await datasets.service.get(id)).toMatchObject({ counts: { captioned: 1, labelled: 1, scored: 1 } })
  await expect(datasets.service.changeItem(id, 'itm_none', {})).rejects.toMatchObject({
    code: 'item_not_found',
  })
  await expect(datasets.service.changeItem('ds_none', dog, {})).rejects.toMatchObject({ code: 'not_found' })
  await expect(datasets.service.changeItem(id, dog, { label: 'a\0' })).rejects.toMatchObject({
    code: 'invalid_text',
  })
})

test('pictures are counted by the buckets of a resolution', async () => {
  await datasets.start()
  const { id } = await datasets.add(tar(await someFiles()))
  expect(await datasets.service.buckets(id, 256)).toEqual([
    { width: 304, height: 208, items: 1 },
    { width: 352, height: 176, items: 1 },
  ])
})

test('pages follow each other without gaps', async () => {
  await datasets.start()
  const files = await Promise.all(
    Array.from({ length: 7 }, async (_, index) => ({ name: `${index}.png`, data: await picture(index) })),
  )
  const { id } = await datasets.add(tar(files))
  const paths: string[] = []
  let cursor: string | undefined
  do {
    const page = await datasets.service.items(id, { limit: 3, cursor })
    paths.push(...page.data.map(({ path }) => path))
    cursor = page.nextCursor
  } while (cursor !== undefined)
  expect(paths).toEqual(files.map(({ name }) => name))
  await expect(datasets.service.items(id, { cursor: 'x' })).rejects.toMatchObject({ code: 'invalid_cursor' })
})

test('a set of which next to everything is wrong is read, with as many problems as are kept', async () => {
  await datasets.start()
  const { id, state, counts } = await datasets.add(
    zip([
      { name: 'a.png', data: await picture(1) },
      { name: 'captions.jsonl', data: '1\n'.repeat(10_050), method: 'deflated' },
    ]),
  )
  expect([state, counts.problems]).toEqual(['ready', 10_050])
  const { prisma } = datasets.storage.database
  expect(await prisma.datasetProblem.count({ where: { datasetId: id } })).toBe(10_000)
})

test('a set without one usable picture fails, tells why, and keeps no file', async () => {
  await datasets.start()
  const dataset = await datasets.add(
    zip([
      { name: 'huge.png', data: hollowPng(50_000, 50_000) },
      { name: 'a.txt', data: 'x' },
    ]),
  )
  expect(dataset).toMatchObject({
    state: 'failed',
    error: { code: 'no_pictures', message: expect.stringContaining('got none among 2 files') },
    counts: { items: 0, problems: 2 },
  })
  const { data } = await datasets.service.problems(dataset.id)
  expect(data[0]).toMatchObject({
    path: 'huge.png',
    code: 'too_many_pixels',
    message: 'expected at most 67108864 pixels, got 50000 × 50000',
    effect: 'left_out',
  })
  expect(datasets.files()).toEqual([])
  await expect(datasets.service.snapshot(dataset.id, '/nowhere')).rejects.toMatchObject({ code: 'not_ready' })
})

test('what is no archive is refused, and nothing of it stays', async () => {
  await datasets.start()
  await expect(datasets.add(Buffer.from('hello'))).rejects.toMatchObject({ code: 'unknown_archive' })
  await expect(datasets.add(Buffer.alloc(5000, 'x'))).rejects.toMatchObject({ code: 'unknown_archive' })
  expect((await datasets.service.list()).data).toEqual([])
  expect(datasets.files()).toEqual([])
})

test('an upload that is too large is refused while it comes', async () => {
  await datasets.start({ limits: { maxTotalBytes: 10_000 } })
  await expect(datasets.add(tar([{ name: 'a.png', data: Buffer.alloc(20_000) }]))).rejects.toMatchObject({
    code: 'too_large',
  })
  expect(datasets.files()).toEqual([])
})

test('an upload that breaks off leaves nothing', async () => {
  await datasets.start()
  const stream = new PassThrough()
  const upload = datasets.service.upload({ name: 'x' }, { stream })
  stream.write(tar([{ name: 'a.png', data: await picture(1) }]).subarray(0, 700))
  expect((await theOnly()).state).toBe('receiving')
  stream.destroy(new Error('aborted'))
  await expect(upload).rejects.toMatchObject({ code: 'interrupted' })
  expect((await datasets.service.list()).data).toEqual([])
  expect(datasets.files()).toEqual([])
})

test('a dataset is deleted with its files, also while it comes, and not while a job works with it', async () => {
  const busy = new Set<string>()
  await datasets.start({ inUse: async (_transaction, id) => busy.has(id) })
  const { id } = await datasets.add(tar(await someFiles()))
  busy.add(id)
  await expect(datasets.service.delete(id)).rejects.toMatchObject({ code: 'in_use' })
  expect(datasets.files()).toHaveLength(2)
  busy.delete(id)
  expect(await datasets.service.delete(id)).toBe(true)
  expect(await datasets.service.delete(id)).toBe(false)
  expect(await datasets.service.get(id)).toBeUndefined()

  const stream = new PassThrough()
  const upload = datasets.service.upload({ name: 'x' }, { stream })
  stream.write(tar([]))
  const coming = await theOnly()
  const [received, wasThere] = await Promise.allSettled([upload, datasets.service.delete(coming.id)])
  expect(received).toMatchObject({ reason: { code: 'interrupted' } })
  expect(wasThere).toMatchObject({ value: true })
  expect(datasets.files()).toEqual([])
})

test('folders of the server are taken only from below the root, by their real paths', async () => {
  const root = temporaryFolder()
  const elsewhere = temporaryFolder()
  await mkdir(join(root, 'pets'))
  await writeFile(join(root, 'pets', 'a.png'), await picture(1))
  await writeFile(join(elsewhere, 'secret.png'), await picture(2))
  await symlink(elsewhere, join(root, 'out'))
  await symlink(join(elsewhere, 'secret.png'), join(root, 'pets', 'b.png'))
  await datasets.start({ foldersRoot: root })
  for (const folder of ['..', '../..', elsewhere, 'out', 'none', 'pets/a.png', 'pets\0'])
    await expect(datasets.service.fromFolder({ name: 'x', folder })).rejects.toMatchObject({
      code: expect.stringMatching(/folder_not_allowed|invalid_text/),
    })
  const { id } = await datasets.service.fromFolder({ name: 'x', folder: 'pets' })
  expect(await datasets.settled(id)).toMatchObject({
    state: 'ready',
    source: { kind: 'folder', folder: 'pets' },
    counts: { items: 1 },
  })
  expect((await datasets.service.problems(id)).data).toMatchObject([{ path: 'b.png', code: 'not_a_file' }])
  const absolute = await datasets.service.fromFolder({ name: 'y', folder: join(root, 'pets') })
  expect(await datasets.settled(absolute.id)).toMatchObject({ state: 'ready' })
})

test('without a root no folder is taken', async () => {
  await datasets.start()
  await expect(datasets.service.fromFolder({ name: 'x', folder: '/tmp' })).rejects.toMatchObject({
    code: 'folder_not_allowed',
  })
})
