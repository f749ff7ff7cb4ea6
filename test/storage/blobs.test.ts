import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { BlobDirectory } from '../../src/storage/blobs.ts'
import { temporaryFolder } from './folders.ts'

const listed = (blobs: BlobDirectory) => Array.fromAsync(blobs.list()).then((keys) => keys.sort())

test('bytes come back whole and by inclusive range, under a key that does not depend on them', async () => {
  const blobs = await BlobDirectory.open(join(temporaryFolder(), 'blobs'))
  const bytes = randomBytes(200_000)
  const [first, second] = [await blobs.put(bytes, 'png'), await blobs.put(bytes, 'png')]
  expect(first).toMatch(/^([0-9a-f]{2})\/\1[0-9a-f]{30}\.png$/)
  expect(second).not.toBe(first)
  expect(await buffer(await blobs.open(first))).toEqual(bytes)
  expect(await buffer(await blobs.open(first, { start: 0, end: 0 }))).toEqual(bytes.subarray(0, 1))
  expect(await buffer(await blobs.open(first, { start: 70_000, end: 199_999 }))).toEqual(
    bytes.subarray(70_000),
  )
  expect(await listed(blobs)).toEqual([first, second].sort())
})

test('deleting one of two equal blobs leaves the other, and deleting twice is no error', async () => {
  const blobs = await BlobDirectory.open(temporaryFolder())
  const [first, second] = [
    await blobs.put(Buffer.from('same'), 'jpg'),
    await blobs.put(Buffer.from('same'), 'jpg'),
  ]
  await blobs.delete(first)
  await blobs.delete(first)
  await expect(blobs.open(first)).rejects.toMatchObject({ code: 'blob_missing' })
  expect(await buffer(await blobs.open(second))).toEqual(Buffer.from('same'))
})

test('a write that fails leaves no file', async () => {
  const root = temporaryFolder()
  const blobs = await BlobDirectory.open(root)
  for (let shard = 0; shard < 256; shard++)
    writeFileSync(join(root, shard.toString(16).padStart(2, '0')), 'in the way of a folder')
  await expect(blobs.put(Buffer.from('lost'), 'png')).rejects.toThrow(/EEXIST|ENOTDIR/)
  expect(readdirSync(join(root, 'unfinished'))).toEqual([])
})

test('only a key becomes a path', async () => {
  const blobs = await BlobDirectory.open(temporaryFolder())
  for (const key of [
    '../../etc/passwd',
    'ab/../../x',
    '/etc/passwd',
    '',
    'ab/0.png',
    'unfinished/x',
    `ab/${'0'.repeat(32)}.p/g`,
  ]) {
    await expect(blobs.open(key)).rejects.toMatchObject({ code: 'blob_missing' })
    await expect(blobs.delete(key)).rejects.toMatchObject({ code: 'blob_missing' })
  }
})

test('opening removes what an unfinished write left and touches nothing that is whole', async () => {
  const root = temporaryFolder()
  const blobs = await BlobDirectory.open(root)
  const key = await blobs.put(Buffer.from('whole'), 'webp')
  writeFileSync(join(root, 'unfinished', 'half'), 'ha')
  mkdirSync(join(root, 'notes'))
  writeFileSync(join(root, 'notes', 'mine.txt'), 'not a blob')
  const reopened = await BlobDirectory.open(root)
  expect(readdirSync(join(root, 'unfinished'))).toEqual([])
  expect(await listed(reopened)).toEqual([key])
  expect(existsSync(join(root, 'notes', 'mine.txt'))).toBe(true)
})

test.skipIf(process.platform === 'win32')('only this user can read the files', async () => {
  const root = join(temporaryFolder(), 'blobs')
  const key = await (await BlobDirectory.open(root)).put(Buffer.from('x'), 'png')
  expect(statSync(join(root, key)).mode & 0o777).toBe(0o600)
})
