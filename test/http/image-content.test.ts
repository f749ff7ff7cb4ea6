/** `GET /v1/images/{id}/content`: caching and ranges as RFC 9110 has them. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isNotModified, readRange } from '../../src/http/byte-range.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let url: string
let whole: Buffer
let etag: string

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation)
  const address = await listen(app)
  const answer = await fetch(`${address}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'x', steps: 1, output_format: 'webp' }),
  })
  const { data } = (await answer.json()) as { data: [{ url: string }] }
  url = data[0].url
  const content = await fetch(url)
  whole = Buffer.from(await content.arrayBuffer())
  etag = content.headers.get('etag') ?? ''
})

afterAll(async () => {
  await app.close()
  await service.close()
})

const get = async (headers: Record<string, string> = {}, method = 'GET') => {
  const answer = await fetch(url, { headers, method })
  return { status: answer.status, headers: answer.headers, bytes: Buffer.from(await answer.arrayBuffer()) }
}

describe('the whole picture', () => {
  test('comes with its type, size and an ETag that is its hash, to be kept for ever', async () => {
    const { status, headers } = await get()
    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('image/webp')
    expect(headers.get('content-length')).toBe(String(whole.length))
    expect(headers.get('cache-control')).toBe('private, max-age=31536000, immutable')
    expect(headers.get('accept-ranges')).toBe('bytes')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-disposition')).toMatch(/^inline; filename="img_\w+\.webp"$/)
    const digest = Buffer.from(await crypto.subtle.digest('SHA-256', whole)).toString('hex')
    expect(etag).toBe(`"${digest}"`)
  })

  test('has the same head without a body for HEAD, whose Range means nothing', async () => {
    const { status, headers, bytes } = await get({ range: 'bytes=0-1' }, 'HEAD')
    expect(status).toBe(200)
    expect(headers.get('content-length')).toBe(String(whole.length))
    expect(headers.get('etag')).toBe(etag)
    expect(bytes).toHaveLength(0)
  })

  test('is not sent again to a client that holds it', async () => {
    for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const { status, headers, bytes } = await get({ 'if-none-match': tags, range: 'bytes=0-1' })
      expect(status).toBe(304)
      expect(headers.get('etag')).toBe(etag)
      expect(bytes).toHaveLength(0)
    }
    expect((await get({ 'if-none-match': '"other"' })).status).toBe(200)
  })
})

describe('a range', () => {
  test.each<[string, (size: number) => [number, number]]>([
    ['bytes=0-0', () => [0, 0]],
    ['bytes=10-19', () => [10, 19]],
    ['bytes=10-', (size) => [10, size - 1]],
    ['bytes=-5', (size) => [size - 5, size - 1]],
    ['bytes=-999999', (size) => [0, size - 1]],
    ['bytes=5-999999', (size) => [5, size - 1]],
    ['Bytes = 0-1', () => [0, 1]],
  ])('%s is sent alone', async (range, expected) => {
    const [start, end] = expected(whole.length)
    const { status, headers, bytes } = await get({ range })
    expect(status).toBe(206)
    expect(headers.get('content-range')).toBe(`bytes ${start}-${end}/${whole.length}`)
    expect(bytes).toEqual(whole.subarray(start, end + 1))
  })

  test.each(['bytes=999999-', 'bytes=5-4', 'bytes=-0', 'bytes=-', 'bytes=a-b', 'bytes='])(
    '%s is refused with the size',
    async (range) => {
      const { status, headers, bytes } = await get({ range })
      expect(status).toBe(416)
      expect(headers.get('content-range')).toBe(`bytes */${whole.length}`)
      expect(headers.get('cache-control')).toBeNull()
      expect(JSON.parse(bytes.toString()).error).toMatchObject({
        code: 'range_not_satisfiable',
        param: 'Range',
      })
    },
  )

  test.each(['bytes=0-1,4-5', 'pages=1-2', 'bytes'])('%s is answered with the whole', async (range) => {
    const { status, bytes } = await get({ range })
    expect(status).toBe(200)
    expect(bytes).toEqual(whole)
  })

  test('whose If-Range is another picture is answered with the whole', async () => {
    expect((await get({ range: 'bytes=0-1', 'if-range': etag })).status).toBe(206)
    expect((await get({ range: 'bytes=0-1', 'if-range': '"other"' })).status).toBe(200)
    expect((await get({ range: 'bytes=0-1', 'if-range': `W/${etag}` })).status).toBe(200)
  })
})

test('a picture that does not exist is a 404 by name', async () => {
  const answer = await fetch(
    url.replace(/img_\w+/, 'img_00000000000000000000000000000000').replace(/\?.*/, ''),
  )
  expect(answer.status).toBe(404)
  expect(await answer.json()).toMatchObject({ error: { code: 'image_not_found', param: 'id' } })
})

test('nothing satisfies a range of an empty body', () => {
  expect(readRange({ range: 'bytes=0-' }, '"a"', 0)).toEqual({ kind: 'unsatisfiable' })
})

test('an unquoted tag matches nothing', () => {
  expect(isNotModified('a', '"a"')).toBe(false)
})
