/** Which requests are taken for this server's own, and which for a web page's. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildTestApp, listen, testConfig } from './server.ts'
import { send, sendBytes } from './requests.ts'
import { unreachableService } from './unreachable.ts'

const servers: FastifyInstance[] = []
let plain: string
let published: string
let port: string

const start = async (environment: Record<string, string>) => {
  const app = await buildTestApp(unreachableService, { config: testConfig(environment) })
  servers.push(app)
  return listen(app)
}

beforeAll(async () => {
  plain = await start({})
  published = await start({ ATELIER_HOST: 'Box.lan', ATELIER_PUBLIC_URL: 'https://pictures.example/studio' })
  port = new URL(plain).port
})

afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()))
})

const statusFor = async (address: string, headers: Record<string, string>) => {
  const { status, headers: answered } = await send(address, { path: '/v1/models', headers })
  expect(Object.keys(answered).filter((name) => name.startsWith('access-control'))).toEqual([])
  return status
}

describe('Host', () => {
  test.each(['127.0.0.1', 'localhost', 'LOCALHOST', 'localhost.', 'app.localhost', '127.1.2.3', '[::1]'])(
    '%s with the port in use is allowed',
    async (name) => expect(await statusFor(plain, { host: `${name}:${port}` })).toBe(200),
  )

  test.each([
    'evil.example',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    '10.0.0.1',
    '[::2]',
    '0.0.0.0',
  ])('%s with the port in use is refused', async (name) =>
    expect(await statusFor(plain, { host: `${name}:${port}` })).toBe(403),
  )

  test.each([
    '127.0.0.1',
    'localhost',
    'localhost:1',
    ':',
    'localhost:x',
    'a@localhost',
    'localhost/x',
    '127.0.0.1,evil',
  ])('%j is refused: another port, or no authority at all', async (host) =>
    expect(await statusFor(plain, { host })).toBe(403),
  )

  test.each(['GET /livez HTTP/1.0\r\n\r\n', 'GET /livez HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n'])(
    'left out is refused: %j',
    async (bytes) => expect(await sendBytes(plain, bytes)).toMatch(/^HTTP\/1\.1 403 /),
  )

  test('the configured host and that of the public URL are allowed, the latter also without its port', async () => {
    const { port } = new URL(published)
    expect(await statusFor(published, { host: `box.lan:${port}` })).toBe(200)
    expect(await statusFor(published, { host: 'box.lan' })).toBe(403)
    expect(await statusFor(published, { host: 'pictures.example' })).toBe(200)
    expect(await statusFor(published, { host: 'pictures.example:443' })).toBe(200)
    expect(await statusFor(published, { host: 'pictures.example:8443' })).toBe(403)
    expect(await statusFor(published, { host: 'other.example' })).toBe(403)
  })
})

describe('Origin', () => {
  const host = () => `127.0.0.1:${port}`

  test('that is this server is allowed, under any of its names', async () => {
    expect(await statusFor(plain, { host: host(), origin: `http://${host()}` })).toBe(200)
    expect(await statusFor(plain, { host: host(), origin: `http://localhost:${port}` })).toBe(200)
    expect(await statusFor(published, { host: 'pictures.example', origin: 'https://pictures.example' })).toBe(
      200,
    )
  })

  test.each([
    'http://evil.example',
    'null',
    'http://localhost:3000',
    'https://localhost',
    'file://',
    'chrome-extension://abc',
    'x',
  ])('%s is refused', async (origin) => expect(await statusFor(plain, { host: host(), origin })).toBe(403))

  test('every route is behind the guard, unknown ones and preflights too', async () => {
    const foreign = { host: host(), origin: 'http://evil.example' }
    for (const path of ['/livez', '/readyz', '/openapi.yaml', '/v1/images/img_x/content', '/nowhere']) {
      expect((await send(plain, { path, headers: foreign })).status).toBe(403)
    }
    const preflight = { ...foreign, 'access-control-request-method': 'POST' }
    expect(
      (await send(plain, { method: 'OPTIONS', path: '/v1/images/generations', headers: preflight })).status,
    ).toBe(403)
  })
})

test('a refusal says what came and how to allow it', async () => {
  const { body } = await send(plain, { path: '/v1/models', headers: { host: 'evil.example' } })
  expect(JSON.parse(body).error).toEqual({
    message:
      'Host: expected an address of this server, got "evil.example"; set ATELIER_PUBLIC_URL to where clients reach this server',
    type: 'permission_error',
    param: 'Host',
    code: 'host_not_allowed',
    request_id: expect.stringMatching(/^req_/),
  })
})
