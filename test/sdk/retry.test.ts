/** What the client does about 429, 5xx and connections that break, against a server that plays a script. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, test } from 'vitest'
import { createAtelier, type AtelierOptions } from '../../src/sdk/index.ts'
import { backoffMs, readRetryAfter } from '../../src/sdk/retry.ts'

type Act = (response: ServerResponse) => void

let server: Server | undefined
const received: {
  method: string | undefined
  headers: IncomingMessage['headers']
  body: string
  atMs: number
}[] = []

afterEach(async () => {
  received.length = 0
  server?.closeAllConnections()
  await server?.[Symbol.asyncDispose]()
  server = undefined
})

/** Plays one act for each request that comes, the last one for all further ones. */
async function play(acts: readonly Act[], options: Partial<AtelierOptions> = {}) {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const { method, headers } = request
    received.push({ method, headers, body: await text(request), atMs: performance.now() })
    acts[Math.min(received.length, acts.length) - 1]?.(response)
  }
  const listening = createServer((request, response) => void answer(request, response))
  server = listening
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
  const { port } = listening.address() as AddressInfo
  return createAtelier({ baseUrl: `http://127.0.0.1:${port}`, maxDelayMs: 5_000, ...options })
}

const succeed: Act = (response) =>
  void response.setHeader('content-type', 'application/json').end('{"object":"list","data":[]}')
const refuse =
  (status: number, headers: Record<string, string> = { 'retry-after': '0' }): Act =>
  (response) => {
    const error = {
      message: 'no',
      type: 'server_error',
      param: null,
      code: 'queue_full',
      request_id: 'req_1',
    }
    response.writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'req_1', ...headers })
    response.end(JSON.stringify({ error }))
  }
const hangUp: Act = (response) => void response.destroy()
const silence: Act = () => undefined

describe('an attempt is repeated', () => {
  test.each([429, 500, 502, 503, 504])(
    'after %i, with the same body, also where it may not run twice',
    async (status) => {
      const atelier = await play([refuse(status), refuse(status), succeed])
      await atelier.images.generate({ prompt: 'x' })
      expect(received.map(({ body }) => body)).toEqual(Array.from({ length: 3 }, () => '{"prompt":"x"}'))
    },
  )

  test('after a connection that broke, where it may run twice', async () => {
    const atelier = await play([hangUp, succeed], { maxDelayMs: 1 })
    await atelier.models.list()
    expect(received).toHaveLength(2)
  })

  test('after a connection that broke, with the same key', async () => {
    const atelier = await play([hangUp, succeed], { maxDelayMs: 1 })
    await atelier.images.generate({ prompt: 'x' }, { idempotencyKey: 'k-1' })
    expect(received.map(({ headers }) => headers['idempotency-key'])).toEqual(['k-1', 'k-1'])
  })

  test('after no answer in time, where it may run twice', async () => {
    const atelier = await play([silence, succeed], { timeoutMs: 100, maxDelayMs: 1 })
    await atelier.models.list()
    expect(received).toHaveLength(2)
  })

  test('not before Retry-After', async () => {
    const atelier = await play([refuse(429, { 'retry-after': '1' }), succeed])
    await atelier.models.list()
    expect((received[1]?.atMs ?? 0) - (received[0]?.atMs ?? 0)).toBeGreaterThan(990)
  })
})

describe('an attempt is not repeated', () => {
  test.each([400, 403, 404, 409, 422])('after %i', async (status) => {
    const atelier = await play([refuse(status)])
    await expect(atelier.models.list()).rejects.toMatchObject({
      status,
      code: 'queue_full',
      requestId: 'req_1',
    })
    expect(received).toHaveLength(1)
  })

  test('more often than asked', async () => {
    const atelier = await play([refuse(503)], { maxRetries: 3 })
    await expect(atelier.models.list()).rejects.toMatchObject({ status: 503 })
    expect(received).toHaveLength(4)
  })

  test('after a broken connection where it could run twice: the pictures may be on their way', async () => {
    const atelier = await play([hangUp])
    await expect(atelier.images.generate({ prompt: 'x' })).rejects.toMatchObject({
      code: 'connection_failed',
    })
    expect(received).toHaveLength(1)
  })

  test('when the service asks for more patience than the caller has', async () => {
    const atelier = await play([refuse(429, { 'retry-after': '3600' })])
    await expect(atelier.models.list()).rejects.toMatchObject({ status: 429, retryAfterMs: 3_600_000 })
    expect(received).toHaveLength(1)
  })

  test('when the caller leaves while it waits', async () => {
    const caller = new AbortController()
    const atelier = await play([
      (response) => {
        refuse(503, { 'retry-after': '4' })(response)
        response.once('close', () => caller.abort(new Error('enough')))
      },
    ])
    await expect(atelier.models.list({ signal: caller.signal })).rejects.toThrow('enough')
    expect(received).toHaveLength(1)
  })
})

test('an answer that is not the service’s own is an error all the same', async () => {
  const atelier = await play([
    (response) => void response.writeHead(404, { 'content-type': 'text/html' }).end('<h1>nginx</h1>'),
  ])
  await expect(atelier.models.list()).rejects.toMatchObject({ status: 404, code: 'unexpected_response' })
})

test.each<[string, Act]>([
  [
    'breaks off',
    (response) => void response.writeHead(200, { 'content-length': 99 }).write('{', () => response.destroy()),
  ],
  ['is no JSON', (response) => void response.writeHead(200).end('<h1>hello</h1>')],
])('an answer that %s is a typed error', async (_, act) => {
  const atelier = await play([act])
  await expect(atelier.models.list()).rejects.toMatchObject({
    name: 'AtelierError',
    code: 'unexpected_response',
  })
})

test('a key and headers go with every request', async () => {
  const atelier = await play([succeed], { apiKey: 'secret', headers: { 'x-team': 'blue' } })
  await atelier.models.list()
  expect(received[0]?.headers).toMatchObject({ authorization: 'Bearer secret', 'x-team': 'blue' })
})

test('Retry-After is read as seconds and as a date', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  const read = (value: string) => readRetryAfter({ headers: new Headers({ 'retry-after': value }) }, now)
  expect(read('7')).toBe(7000)
  expect(read('Thu, 01 Jan 2026 00:00:30 GMT')).toBe(30_000)
  expect(read('Wed, 31 Dec 2025 00:00:00 GMT')).toBe(0)
  expect(read('soon')).toBeUndefined()
  expect(readRetryAfter({ headers: new Headers() }, now)).toBeUndefined()
})

test('waits grow twofold up to their bound, and jitter takes anything below', () => {
  expect([0, 1, 2, 3, 4].map((attempt) => backoffMs(attempt, 3000, 1))).toEqual([500, 1000, 2000, 3000, 3000])
  expect(backoffMs(3, 60_000, 0)).toBe(0)
  expect(backoffMs(3, 60_000, 0.25)).toBe(1000)
})
