/** Links to pictures: signed, good for a while, and the same for every process that has the key. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { buildTestApp, listen, startTestService, testConfig, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let address: string

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation, { config: testConfig({ ATELIER_URL_EXPIRY: '120' }) })
  address = await listen(app)
})
afterAll(async () => {
  vi.useRealTimers()
  await app.close()
  await service.close()
})

const post = async (path: string, body: unknown) => {
  const headers = { 'content-type': 'application/json', prefer: 'wait=30' }
  return (await fetch(`${address}${path}`, { method: 'POST', headers, body: JSON.stringify(body) })).json()
}
const errorOf = async (url: string) => {
  const answer = await fetch(url)
  return { status: answer.status, error: ((await answer.json()) as { error: unknown }).error }
}

test('every place that tells of a picture tells a signed address of it, which leads to its bytes', async () => {
  const { id, data } = (await post('/v1/images/generations', { prompt: 'x', steps: 1 })) as {
    id: string
    data: [{ id: string; url: string }]
  }
  const get = async (path: string) => (await fetch(`${address}${path}`)).json()
  const generation = (await get(`/v1/generations/${id}`)) as { images: [{ url: string }] }
  const image = (await get(`/v1/images/${data[0].id}`)) as { url: string }
  const list = (await get('/v1/generations')) as { data: [{ images: [{ url: string }] }] }
  for (const url of [data[0].url, generation.images[0].url, image.url, list.data[0].images[0].url]) {
    expect(url).toMatch(/\/v1\/images\/img_\w+\/content\?expires=\d+&signature=[\w-]{43}$/)
    const answer = await fetch(url)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('image/png')
  }
})

test('a signed address ends; another is refused; without a signature it is as before', async () => {
  const { data } = (await post('/v1/images/generations', { prompt: 'x', steps: 1 })) as {
    data: [{ url: string }]
  }
  const { url } = data[0]
  expect(await errorOf(url.replace(/signature=.{4}/, 'signature=AAAA'))).toMatchObject({
    status: 403,
    error: { code: 'invalid_signature', param: 'signature' },
  })
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 123_000 })
  const { status, error } = await errorOf(url)
  vi.useRealTimers()
  expect({ status, error }).toMatchObject({
    status: 403,
    error: {
      code: 'url_expired',
      param: 'expires',
      message: expect.stringMatching(
        /^expires: expected an address that is still good, got one that expired at 20/,
      ),
    },
  })
  expect((await fetch(url.replace(/\?.*/, ''))).status).toBe(200)
})

test('previews are told by signed addresses too', async () => {
  const { id } = (await post('/v1/generations', { prompt: 'x', steps: 4, preview_every: 2 })) as {
    id: string
  }
  const events = await (await fetch(`${address}/v1/generations/${id}/events`)).text()
  const url = /"url":"([^"]+\/previews\/\d+\?expires=\d+&signature=[\w-]{43})"/.exec(events)?.[1] ?? ''
  const answer = await fetch(url)
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('image/webp')
})

test('another process with the same key takes the address, one with another key does not', async () => {
  const { data } = (await post('/v1/images/generations', { prompt: 'x', steps: 1 })) as {
    data: [{ url: string }]
  }
  const path = data[0].url.slice(address.length)
  for (const [urlKey, status] of [
    [new Uint8Array(32).fill(7), 200],
    [new Uint8Array(32).fill(8), 403],
  ] as const) {
    const other = await buildTestApp(service.generation, { urlKey })
    expect((await fetch(`${await listen(other)}${path}`)).status).toBe(status)
    await other.close()
  }
})
