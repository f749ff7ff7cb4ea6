import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { BlobDirectory } from '../../src/storage/blob-directory.ts'
import { temporaryFolder } from './folders.ts'

const png = { extension: 'png', owner: 'gen_1-1' }

test('a write that fails leaves no file', async () => {
  const root = temporaryFolder()
  const blobs = await BlobDirectory.open(root)
  for (let shard = 0; shard < 256; shard++)
    writeFileSync(join(root, shard.toString(16).padStart(2, '0')), 'in the way of a folder')
  await expect(blobs.put(Buffer.from('lost'), png)).rejects.toThrow(/EEXIST|ENOTDIR/)
  expect(readdirSync(join(root, 'unfinished'))).toEqual([])
})

test('what an unfinished write left is removed by its age, and nothing else is touched', async () => {
  const root = temporaryFolder()
  const blobs = await BlobDirectory.open(root)
  const key = await blobs.put(Buffer.from('whole'), png)
  for (const name of ['old', 'young']) writeFileSync(join(root, 'unfinished', name), 'ha')
  utimesSync(join(root, 'unfinished', 'old'), new Date(1000), new Date(1000))
  mkdirSync(join(root, 'notes'))
  writeFileSync(join(root, 'notes', 'mine.txt'), 'not a blob')
  await blobs.removeUnfinished(new Date(2000))
  expect(readdirSync(join(root, 'unfinished'))).toEqual(['young'])
  expect((await Array.fromAsync(blobs.list())).map((blob) => blob.key)).toEqual([key])
  expect(existsSync(join(root, 'notes', 'mine.txt'))).toBe(true)
})

test.skipIf(process.platform === 'win32')('only this user can read the files', async () => {
  const root = join(temporaryFolder(), 'blobs')
  const key = await (await BlobDirectory.open(root)).put(Buffer.from('x'), png)
  expect(statSync(join(root, key)).mode & 0o777).toBe(0o600)
})
