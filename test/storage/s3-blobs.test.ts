/** What is S3's own: whose bucket it is, checksums, links, and one clear error when it cannot be used. */
import { createServer as createHttpServer, request as ask } from 'node:http'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import {
  CreateMultipartUploadCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import S3rver from '@20minutes/s3rver'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { S3Blobs, type S3Options } from '../../src/storage/s3-blobs.ts'
import { temporaryFolder } from './folders.ts'
import { bucket, startS3Server, type S3Server } from './s3-server.ts'

const png = { extension: 'png', owner: 'gen_1-1' }
let server: S3Server
let client: S3Client

beforeAll(async () => {
  server = await startS3Server()
  client = new S3Client({ endpoint: server.endpoint, region: 'eu-central-1', forcePathStyle: true })
})
afterAll(async () => {
  client.destroy()
  await server.stop()
})

const names = async (prefix: string) => {
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }))
  return Contents.map(({ Key = '' }) => Key)
}

test('blobs lie below the prefix, and what else is there is left alone', async () => {
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'mine/notes.txt', Body: 'mine' }))
  const blobs = await S3Blobs.open({ ...server.options, prefix: 'mine' })
  const key = await blobs.put(Buffer.from('x'), png)
  expect(await names('mine')).toEqual([`mine/${key}`, 'mine/installation', 'mine/notes.txt'].toSorted())
  expect((await Array.fromAsync(blobs.list())).map((blob) => blob.key)).toEqual([key])
  blobs.close()
})

test('a list goes on beyond its first page', async () => {
  const blobs = await S3Blobs.open({ ...server.options, prefix: 'many' })
  const keys: string[] = []
  for (let i = 0; i < 1005; i += 15)
    keys.push(...(await Promise.all(Array.from({ length: 15 }, () => blobs.put(Buffer.from('x'), png)))))
  expect((await Array.fromAsync(blobs.list())).map((blob) => blob.key).toSorted()).toEqual(keys.toSorted())
  blobs.close()
})

test('a blob whose bytes are not those of its checksum is not read to its end', async () => {
  const blobs = await S3Blobs.open({ ...server.options, prefix: 'bad' })
  const key = await blobs.put(Buffer.from('as they were'), png)
  const ChecksumSHA256 = Buffer.alloc(32).toString('base64') // which this server believes
  await client.send(
    new PutObjectCommand({ Bucket: bucket, Key: `bad/${key}`, Body: 'as they are not', ChecksumSHA256 }),
  )
  await expect(blobs.open(key).then(buffer)).rejects.toThrow(/[Cc]hecksum/)
  blobs.close()
})

interface BegunUpload {
  readonly key: string
  readonly id: string
  readonly begunAt: Date
}

/** The same storage, which also lists uploads that were not completed, one a page (ListMultipartUploads, as Amazon's has it). */
async function startListingUploads(uploads: readonly BegunUpload[]): Promise<string> {
  const port = Number(new URL(server.endpoint).port)
  const listing = createHttpServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, server.endpoint)
    if (request.method !== 'GET' || !searchParams.has('uploads')) {
      const { method, url: path, headers } = request
      const forwarded = ask({ port, method, path, headers }, (answer) => {
        response.writeHead(answer.statusCode!, answer.headers)
        answer.pipe(response)
      })
      request.pipe(forwarded)
      return
    }
    const after = searchParams.get('upload-id-marker')
    const at = uploads.findIndex(({ id }) => id === after) + 1
    const { key, id, begunAt } = uploads[at]!
    const isLast = at === uploads.length - 1
    response.setHeader('content-type', 'application/xml').end(
      `<?xml version="1.0" encoding="UTF-8"?><ListMultipartUploadsResult><Bucket>${pathname.slice(1)}</Bucket>
      <Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${begunAt.toISOString()}</Initiated></Upload>
      <NextKeyMarker>${key}</NextKeyMarker><NextUploadIdMarker>${id}</NextUploadIdMarker>
      <IsTruncated>${!isLast}</IsTruncated></ListMultipartUploadsResult>`,
    )
  }).listen(0, '127.0.0.1')
  await once(listing, 'listening')
  onTestFinished(() => void listing.close())
  return `http://127.0.0.1:${(listing.address() as AddressInfo).port}`
}

test('uploads in parts that a kill cut short are ended once they are old, and no others', async () => {
  const [old, young] = [new Date(Date.now() - 7_200_000), new Date()]
  const begin = async (name: string, begunAt: Date): Promise<BegunUpload> => {
    const key = `parts/${name}`
    const command = new CreateMultipartUploadCommand({ Bucket: bucket, Key: key })
    const { UploadId: id } = await client.send(command)
    return { key, id: id!, begunAt }
  }
  const blob = (digit: string) => `${digit.repeat(2)}/${digit.repeat(32)}.gen_1-1.png`
  const [left, another, running, foreign] = [
    await begin(blob('a'), old),
    await begin(blob('b'), old),
    await begin(blob('c'), young),
    await begin('notes.txt', old),
  ]
  const gone = { key: `parts/${blob('d')}`, id: 'which has come to its end', begunAt: old }
  const endpoint = await startListingUploads([left, gone, running, foreign, another])
  const blobs = await S3Blobs.open({ ...server.options, endpoint, prefix: 'parts' })
  await blobs.removeUnfinished(new Date(Date.now() - 3_600_000))
  blobs.close()
  const isThere = async ({ key: Key, id: UploadId }: BegunUpload) =>
    client.send(new UploadPartCommand({ Bucket: bucket, Key, UploadId, PartNumber: 1, Body: 'x' })).then(
      () => true,
      () => false,
    )
  expect(await Promise.all([left, another, running, foreign].map(isThere))).toEqual([
    false,
    false,
    true,
    true,
  ])
})

test('storage that knows no list of uploads is asked once', async () => {
  const blobs = await S3Blobs.open({ ...server.options, prefix: 'many' })
  await blobs.removeUnfinished(new Date())
  expect(await Array.fromAsync(blobs.list())).toHaveLength(1005)
  blobs.close()
})

test('a bucket of another database is not used', async () => {
  const options = { ...server.options, prefix: 'foreign' }
  const blobs = await S3Blobs.open(options)
  await (await S3Blobs.open(options)).put(Buffer.from('x'), png) // the same is welcome again
  blobs.close()
  await expect(S3Blobs.open({ ...options, installation: 'elsewhere' })).rejects.toMatchObject({
    code: 'blobs_foreign',
    message: `s3://pictures/foreign at ${server.endpoint} holds the pictures of installation here, and this database is installation elsewhere; give each a bucket or a prefix of its own`,
  })
})

test('without leave to presign there is no link', async () => {
  const blobs = await S3Blobs.open(server.options)
  const key = await blobs.put(Buffer.from('x'), png)
  const link = { expiresAt: new Date(Date.now() + 1000), contentType: 'image/png', fileName: 'a.png' }
  expect(await blobs.link(key, link)).toBeUndefined()
  blobs.close()
})

describe('a start fails with one error when', () => {
  const refused = (changes: Partial<S3Options>) => S3Blobs.open({ ...server.options, ...changes })

  test('there is no such bucket', async () => {
    await expect(refused({ bucket: 'nowhere' })).rejects.toMatchObject({
      code: 'blobs_unavailable',
      message: expect.stringMatching(
        /expected a bucket named nowhere in region eu-central-1, and there is none/,
      ),
    })
  })

  test('nobody listens', async () => {
    await expect(refused({ endpoint: 'http://127.0.0.1:1' })).rejects.toMatchObject({
      code: 'blobs_unavailable',
      message: expect.stringMatching(
        /at http:\/\/127\.0\.0\.1:1: .*expected a storage that answers, and it does not/,
      ),
    })
  })

  test('what listens does not speak HTTP', async () => {
    const mute: Server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const { port } = mute.address() as { port: number }
    await expect(refused({ endpoint: `http://127.0.0.1:${port}` })).rejects.toMatchObject({
      code: 'blobs_unavailable',
      message: expect.stringContaining('expected a storage that answers'),
    })
    mute.close()
  })
})

/** Its signatures are verified, but for those of requests to the bucket itself, which it computes wrongly. */
describe('a server that asks for credentials', () => {
  let strict: S3rver
  let options: S3Options

  beforeAll(async () => {
    strict = new S3rver({
      port: 0,
      address: '127.0.0.1',
      silent: true,
      directory: temporaryFolder(),
      vhostBuckets: false,
      configureBuckets: [{ name: bucket }],
    })
    const { port } = await strict.run()
    options = { ...server.options, endpoint: `http://127.0.0.1:${port}`, presign: true }
  })
  afterAll(() => strict.close())

  const withKeys = async <T>(id: string, secret: string, work: () => Promise<T>): Promise<T> => {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret })
    try {
      return await work()
    } finally {
      Object.assign(process.env, { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY })
    }
  }

  test.each([
    ['S3RVER', 'wrong'],
    ['wrong', 'S3RVER'],
  ])('refuses %s with the secret %s, in one clear error', async (id, secret) => {
    await expect(withKeys(id, secret, () => S3Blobs.open(options))).rejects.toMatchObject({
      code: 'blobs_unavailable',
      message: expect.stringMatching(
        /expected credentials that may get, put, delete and list there, and was refused/,
      ),
    })
  })

  test('is reached by a link until that expires, and only by the link as it is', async () => {
    const blobs = await withKeys('S3RVER', 'S3RVER', () => S3Blobs.open(options))
    const bytes = Buffer.from('a picture')
    const key = await withKeys('S3RVER', 'S3RVER', () => blobs.put(bytes, png))
    const expiresAt = new Date(Date.now() + 2000)
    const link = { expiresAt, contentType: 'image/png', fileName: 'img_1.png' }
    const url = (await blobs.link(key, link)) ?? ''
    const answer = await fetch(url)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('image/png')
    expect(answer.headers.get('content-disposition')).toBe('inline; filename="img_1.png"')
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes)
    expect((await fetch(url.replace(/(X-Amz-Signature=).{4}/, '$10000'))).status).toBe(403)
    await expect.poll(async () => (await fetch(url)).status, { timeout: 10_000 }).toBe(403)
    blobs.close()
  })
})
