/** What every store of blobs keeps to, held against a directory and against an S3 server. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BlobDirectory } from '../../src/storage/blob-directory.ts'
import type { BlobStore } from '../../src/storage/blobs.ts'
import { S3Blobs } from '../../src/storage/s3-blobs.ts'
import { temporaryFolder } from './folders.ts'
import { startS3Server, type S3Server } from './s3-server.ts'

const png = { extension: 'png', owner: 'gen_1-1' }
const listed = async (blobs: BlobStore) =>
  (await Array.fromAsync(blobs.list())).map(({ key }) => key).toSorted()

let server: S3Server
beforeAll(async () => {
  server = await startS3Server()
})
afterAll(() => server.stop())

let prefixes = 0
const stores: [string, () => Promise<BlobStore>][] = [
  ['a directory', () => BlobDirectory.open(join(temporaryFolder(), 'blobs'))],
  ['S3', () => S3Blobs.open({ ...server.options, prefix: `p${++prefixes}` })],
]

describe.each(stores)('%s', (_, open) => {
  test('gives bytes back whole and by inclusive range, under a key that does not depend on them', async () => {
    const blobs = await open()
    const bytes = randomBytes(200_000)
    const [first, second] = [await blobs.put(bytes, png), await blobs.put(bytes, png)]
    expect(first).toMatch(/^([0-9a-f]{2})\/\1[0-9a-f]{30}\.gen_1-1\.png$/)
    expect(second).not.toBe(first)
    expect(await buffer(await blobs.open(first))).toEqual(bytes)
    expect(await buffer(await blobs.open(first, { start: 0, end: 0 }))).toEqual(bytes.subarray(0, 1))
    expect(await buffer(await blobs.open(first, { start: 70_000, end: 199_999 }))).toEqual(
      bytes.subarray(70_000),
    )
    expect(await listed(blobs)).toEqual([first, second].sort())
    blobs.close()
  })

  test('keeps what is larger than one upload', async () => {
    const blobs = await open()
    const bytes = randomBytes(20 * 2 ** 20 + 7)
    const key = await blobs.put(bytes, png)
    expect((await buffer(await blobs.open(key))).equals(bytes)).toBe(true)
    const tail = { start: bytes.length - 100, end: bytes.length - 1 }
    expect(await buffer(await blobs.open(key, tail))).toEqual(bytes.subarray(-100))
    blobs.close()
  })

  test('deletes one of two equal blobs and leaves the other, and deleting twice is no error', async () => {
    const blobs = await open()
    const same = Buffer.from('same')
    const [first, second] = [await blobs.put(same, png), await blobs.put(same, png)]
    await blobs.delete(first)
    await blobs.delete(first)
    await expect(blobs.open(first)).rejects.toMatchObject({ code: 'blob_missing' })
    await expect(blobs.open(first, { start: 0, end: 1 })).rejects.toMatchObject({ code: 'blob_missing' })
    expect(await buffer(await blobs.open(second))).toEqual(same)
    expect(await listed(blobs)).toEqual([second])
    blobs.close()
  })

  test('tells of each blob whose it is and since when it is there', async () => {
    const blobs = await open()
    const before = Date.now()
    await blobs.put(Buffer.from('x'), { extension: 'webp', owner: 'gen_abc-12' })
    const [blob] = await Array.fromAsync(blobs.list())
    expect(blob?.owner).toBe('gen_abc-12')
    expect(Math.abs((blob?.storedAt.getTime() ?? 0) - before)).toBeLessThan(60_000)
    blobs.close()
  })

  test('takes only a key for a name', async () => {
    const blobs = await open()
    for (const key of [
      '../../etc/passwd',
      'ab/../../x',
      '/etc/passwd',
      '',
      'ab/0.png',
      'unfinished/x',
      'installation',
      `ab/${'0'.repeat(32)}.p/g`,
      `ab/${'0'.repeat(32)}.a.b.png`,
    ]) {
      await expect(blobs.open(key)).rejects.toMatchObject({ code: 'blob_missing' })
      await expect(blobs.delete(key)).rejects.toMatchObject({ code: 'blob_missing' })
    }
    await expect(blobs.put(Buffer.from('x'), { extension: 'png', owner: '../x' })).rejects.toThrow('blob key')
    blobs.close()
  })

  test('knows keys from before they named an owner', async () => {
    const blobs = await open()
    await expect(blobs.open(`ab/${'0'.repeat(32)}.png`)).rejects.toThrow(/there is no/)
    blobs.close()
  })
})
