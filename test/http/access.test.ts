/** Keys over HTTP: made, used by OpenAI's client and ours, limited, revoked; and what a head says to browsers and proxies. */
import type { FastifyInstance } from 'fastify'
import OpenAI, { AuthenticationError, PermissionDeniedError, RateLimitError } from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { newKeyText } from '../../src/access/key-text.ts'
import type { NewKey } from '../../src/access/keys.ts'
import { defaultProject } from '../../src/access/project.ts'
import { openRateWindows } from '../../src/access/rate-windows.ts'
import { scopes } from '../../src/access/scopes.ts'
import { readContract, type Contract } from '../../src/http/contract.ts'
import { readRequirements } from '../../src/http/requirements.ts'
import { createAtelier } from '../../src/sdk/index.ts'
import { heapUsed } from './heap.ts'
import { send } from './requests.ts'
import { buildTestApp, listen, silent, startTestService, testConfig, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let address: string
let admin: string
let before: () => Promise<void> | void = () => undefined
const opened: FastifyInstance[] = []

const start = async (environment: Record<string, string> = {}, access = service.access) => {
  const started = await buildTestApp(service.generation, { access, config: testConfig(environment) })
  opened.push(started)
  return started
}
const makeKey = async (changes: Partial<NewKey> = {}) =>
  service.access.keys.create({ project: defaultProject, name: 'a test', scopes, ...changes })
const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

beforeAll(async () => {
  service = await startTestService({ before: () => before() })
  app = await start()
  address = await listen(app)
})
beforeEach(() => {
  before = () => undefined
})
afterAll(async () => {
  await Promise.all(opened.map((one) => one.close()))
  await service.close()
})

test('the first key closes the door behind it', async () => {
  expect((await send(address, { path: '/v1/models' })).status).toBe(200)
  const atelier = createAtelier({ baseUrl: address, maxRetries: 0 })
  const made = await atelier.keys.create({ name: 'the first', scopes: [...scopes] })
  expect(made).toMatchObject({
    project: 'default',
    scopes: ['generate', 'read', 'admin'],
    last_used_at: null,
  })
  admin = made.key
  await vi.waitFor(async () => expect((await send(address, { path: '/v1/models' })).status).toBe(401))
  expect((await send(address, { path: '/v1/models', headers: bearer(admin) })).status).toBe(200)
  for (const path of ['/livez', '/readyz', '/openapi.yaml'])
    expect((await send(address, { path })).status).toBe(200)
  expect((await send(address, { path: '/metrics' })).status).toBe(401)
  expect((await send(address, { path: '/metrics', headers: bearer(admin) })).status).toBe(200)
})

describe("OpenAI's client", () => {
  const client = (apiKey: string) => new OpenAI({ baseURL: `${address}/v1`, apiKey, maxRetries: 0 })

  test('makes a picture with a key', async () => {
    const { text } = await makeKey({ scopes: ['generate'] })
    const { data } = await client(text).images.generate({
      model: 'gpt-image-1',
      prompt: 'x',
      size: '256x256',
      response_format: 'b64_json',
    })
    expect(data?.[0]?.b64_json).toMatch(/^iVBOR/)
    expect((await client(text).models.list()).data.map(({ id }) => id)).toEqual(['paint'])
  })

  test.each([
    ['a wrong one', () => newKeyText(), /is not known here/],
    ['a mistyped one', () => `${admin.slice(0, -1)}~`, /cut or mistyped/],
    ["somebody else's", () => 'sk-proj-0123', /keys begin with "atl_"/],
  ])('is told what is wrong with its key: %s', async (_, key, message) => {
    const refused = client(key()).models.list()
    await expect(refused).rejects.toThrow(AuthenticationError)
    await expect(refused).rejects.toThrow(message)
    await expect(refused).rejects.toMatchObject({ code: 'invalid_api_key', type: 'invalid_request_error' })
  })

  test('is told which scope is missing', async () => {
    const { text } = await makeKey({ scopes: ['read'] })
    const refused = client(text).images.generate({ prompt: 'x' })
    await expect(refused).rejects.toThrow(PermissionDeniedError)
    await expect(refused).rejects.toThrow('expected a key with the scope generate, got one with read')
  })

  test('is told when it asks too often', async () => {
    const { text } = await makeKey({ requestsPerMinute: 1 })
    await client(text).models.list()
    const refused = client(text).models.list()
    await expect(refused).rejects.toThrow(RateLimitError)
    await expect(refused).rejects.toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' })
  })
})

test('keys are listed, looked at and revoked, and no answer but the first holds one', async () => {
  const { keys } = createAtelier({ baseUrl: address, apiKey: admin, maxRetries: 0 })
  const made = await keys.create({
    name: ' for a while ',
    expires_at: '2099-01-01T00:00:00Z',
    max_in_flight: 3,
  })
  expect(made).toMatchObject({ name: 'for a while', scopes: ['generate', 'read'], max_in_flight: 3 })
  const { key, ...rest } = made
  expect(await keys.retrieve(made.id)).toEqual(rest)
  const all = await Array.fromAsync(keys.list({ limit: 1 }))
  expect(all[0]).toEqual(rest)
  expect(all.length).toBeGreaterThan(2)
  expect(JSON.stringify(all)).not.toContain(key)
  const mine = createAtelier({ baseUrl: address, apiKey: key, maxRetries: 0 })
  expect((await mine.models.list()).data).toHaveLength(1)
  expect((await keys.revoke(made.id)).revoked_at).toMatch(/^20/)
  await vi.waitFor(() => expect(mine.models.list()).rejects.toThrow('got one that was revoked'))
})

test.each([
  [{}, 'name: expected a name of 1 to 200 characters, got nothing'],
  [{ name: 'x', scopes: [] }, 'scopes: expected a list of generate, read and admin'],
  [{ name: 'x', scopes: ['root'] }, 'expected one of "generate", "read", "admin", got "root"'],
  [{ name: 'x', expires_at: '2001-01-01T00:00:00Z' }, 'expires_at: expected a time to come'],
  [{ name: 'x', max_in_flight: 0 }, 'max_in_flight: expected a whole number from 1'],
])('a key that cannot be made: %j', async (payload, message) => {
  const answer = await app.inject({ method: 'POST', url: '/v1/keys', payload, headers: bearer(admin) })
  expect(answer.statusCode).toBe(400)
  expect(answer.json().error.message).toContain(message)
})

describe('limits', () => {
  test('three replicas that share a key of 100 a minute accept 95 to 100 of 1,000 requests at once', async () => {
    const { text } = await makeKey({ requestsPerMinute: 100 })
    const replicas = await Promise.all(
      [1, 2, 3].map(async () => {
        const windows = openRateWindows(service.storage.database, silent)
        return start({}, { ...service.access, windows })
      }),
    )
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, index) =>
        replicas[index % 3]!.inject({ url: '/v1/models', headers: bearer(text) }),
      ),
    )
    const accepted = answers.filter(({ statusCode }) => statusCode === 200)
    expect(accepted.length).toBeGreaterThanOrEqual(95)
    expect(accepted.length).toBeLessThanOrEqual(100)
    expect(accepted[0]?.headers).toMatchObject({ 'ratelimit-limit': '100' })
    const refused = answers.filter(({ statusCode }) => statusCode === 429)
    expect(accepted.length + refused.length).toBe(1000)
    const { headers } = refused[0]!
    expect(headers).toMatchObject({ 'ratelimit-limit': '100', 'ratelimit-remaining': '0' })
    expect(headers['retry-after']).toBe(headers['ratelimit-reset'])
    expect(Number(headers['retry-after'])).toBeGreaterThan(30)
    expect(refused[0]?.json().error).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' })
  })

  const generate = (key: string, payload: object = {}) =>
    app.inject({
      method: 'POST',
      url: '/v1/generations',
      headers: bearer(key),
      payload: { prompt: 'x', steps: 1, ...payload },
    })

  test('no more generations at once than the key may have, however they are asked for', async () => {
    const gate = Promise.withResolvers<void>()
    before = () => gate.promise
    const { text } = await makeKey({ maxInFlight: 5 })
    const answers = await Promise.all(Array.from({ length: 20 }, () => generate(text)))
    expect(answers.filter(({ statusCode }) => statusCode === 202)).toHaveLength(5)
    const refused = answers.filter(({ statusCode }) => statusCode === 429)
    expect(refused).toHaveLength(15)
    expect(refused[0]?.json().error).toMatchObject({ code: 'in_flight_limit_exceeded' })
    expect(Number(refused[0]?.headers['retry-after'])).toBeGreaterThan(0)
    gate.resolve()
    await vi.waitFor(async () => expect((await generate(text)).statusCode).toBe(202), { timeout: 20_000 })
  })

  test('no more pictures in a month than the key may ask for, and what is refused costs nothing', async () => {
    const { key, text } = await makeKey({ imagesPerMonth: 5 })
    expect((await generate(text, { n: 4 })).statusCode).toBe(202)
    const refused = await generate(text, { n: 2 })
    expect(refused.statusCode).toBe(429)
    expect(refused.json().error).toMatchObject({ code: 'insufficient_quota', param: 'n' })
    expect(refused.json().error.message).toContain('expected at most 1 pictures')
    expect((await generate(text)).statusCode).toBe(202)
    expect((await generate(text)).statusCode).toBe(429)
    const { prisma } = service.storage.database
    expect(await prisma.apiKeyMonth.findMany({ where: { keyId: key.id } })).toMatchObject([{ images: 5 }])
    expect(await prisma.generation.count({ where: { keyId: key.id } })).toBe(2)
  })

  test('a replay is no new request for pictures', async () => {
    const { text } = await makeKey({ imagesPerMonth: 1 })
    const headers = { ...bearer(text), 'idempotency-key': 'the same' }
    const answers: Awaited<ReturnType<typeof generate>>[] = []
    for (const _ of [1, 2])
      answers.push(
        await app.inject({
          method: 'POST',
          url: '/v1/generations',
          headers,
          payload: { prompt: 'x', steps: 1 },
        }),
      )
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([202, 202])
    expect(answers[1]?.json().id).toBe(answers[0]?.json().id)
  })

  test('an address with too many wrong keys is not heard, but for keys that were right before', async () => {
    const guarded = await start({ ATELIER_REFUSALS_PER_MINUTE: '20', ATELIER_TRUST_PROXY: '127.0.0.1' })
    const from = (ip: string, key: string) =>
      guarded.inject({
        url: '/v1/models',
        remoteAddress: '127.0.0.1',
        headers: { ...bearer(key), 'x-forwarded-for': ip },
      })
    const { text: known } = await makeKey()
    const { text: unknown } = await makeKey()
    expect((await from('203.0.113.7', known)).statusCode).toBe(200)
    const answers: Awaited<ReturnType<typeof from>>[] = []
    for (let guess = 0; guess < 40; guess++) answers.push(await from('203.0.113.7', newKeyText()))
    const count = (status: number) => answers.filter(({ statusCode }) => statusCode === status).length
    expect([count(401), count(429)]).toEqual([20, 20])
    expect((await from('203.0.113.7', known)).statusCode).toBe(200)
    expect((await from('203.0.113.7', unknown)).statusCode).toBe(429)
    expect((await from('203.0.113.8', unknown)).statusCode).toBe(200)
  })

  test('2,000 wrong keys neither slow the service nor fill its memory', async () => {
    const { text } = await makeKey({ requestsPerMinute: 100_000 })
    const timed = async () => {
      const times: number[] = []
      for (let round = 0; round < 40; round++) {
        const startedMs = performance.now()
        const answer = await app.inject({ url: '/v1/models', headers: bearer(text) })
        expect(answer.statusCode).toBe(200)
        times.push(performance.now() - startedMs)
      }
      return times.sort((a, b) => a - b)[20]!
    }
    await timed()
    const quietMs = await timed()
    const sendWrongOnes = async () => {
      for (let batch = 0; batch < 20; batch++) {
        const answers = await Promise.all(
          Array.from({ length: 100 }, () =>
            app.inject({ url: '/v1/models', headers: bearer(newKeyText()), remoteAddress: '198.51.100.1' }),
          ),
        )
        expect(answers.filter(({ statusCode }) => statusCode < 400 || statusCode >= 500)).toEqual([])
      }
    }
    const find = vi.spyOn(service.access.keys, 'findByHash')
    await sendWrongOnes()
    // After the address had its share nobody looks them up any more.
    expect(find.mock.calls.length).toBeLessThan(300)
    find.mockRestore()
    // The first ones fill what is bounded, and warm what is compiled; the next must add nothing.
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const heapBefore = heapUsed()
    await sendWrongOnes()
    // Connections that have ended are let go of a second or two later.
    const grown = () => heapUsed() - heapBefore
    await vi.waitFor(() => expect(grown()).toBeLessThan(8 * 2 ** 20), { timeout: 30_000, interval: 500 })
    expect(await timed()).toBeLessThan(10 * quietMs + 5)
  })
})

describe('heads', () => {
  test('no answer tells what it is made with', async () => {
    const answers = [
      await send(address, { path: '/v1/models' }),
      await send(address, { path: '/nowhere' }),
      await send(address, { path: '/v1/models', headers: bearer(admin) }),
      await send(address, { method: 'POST', path: '/v1/keys', headers: bearer(admin), body: '{' }),
    ]
    for (const { headers, body } of answers) {
      expect(Object.keys(headers)).not.toEqual(expect.arrayContaining(['server']))
      expect(headers).not.toHaveProperty('x-powered-by')
      expect(`${JSON.stringify(headers)}${body}`).not.toMatch(/fastify|node_modules|\bat \w+ \(|express/i)
      expect(headers).toMatchObject({
        'content-security-policy': "default-src 'none';frame-ancestors 'none'",
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'SAMEORIGIN',
      })
      expect(headers).not.toHaveProperty('strict-transport-security')
    }
  })

  test('Host is not asked for where keys are, and Origin neither', async () => {
    const headers = { ...bearer(admin), host: 'pictures.example', origin: 'https://elsewhere.example' }
    const { status, headers: answered } = await send(address, { path: '/v1/models', headers })
    expect(status).toBe(200)
    expect(Object.keys(answered).filter((name) => name.startsWith('access-control'))).toEqual([])
  })

  test('pages of configured origins may call, errors included, and no others', async () => {
    const shared = await start({
      ATELIER_CORS_ORIGINS: 'https://studio.example',
      ATELIER_PUBLIC_URL: 'https://p.example',
    })
    const from = (origin: string, headers = {}) =>
      shared.inject({ url: '/v1/models', headers: { origin, ...headers } })
    const refused = await from('https://studio.example')
    expect(refused.statusCode).toBe(401)
    expect(refused.headers).toMatchObject({
      'access-control-allow-origin': 'https://studio.example',
      'access-control-expose-headers': expect.stringContaining('retry-after'),
      'strict-transport-security': expect.stringContaining('max-age='),
    })
    expect((await from('https://studio.example', bearer(admin))).statusCode).toBe(200)
    expect((await from('https://evil.example')).headers['access-control-allow-origin']).toBeUndefined()
    const preflight = await shared.inject({
      method: 'OPTIONS',
      url: '/v1/generations',
      headers: { origin: 'https://studio.example', 'access-control-request-method': 'POST' },
    })
    expect(preflight.statusCode).toBe(204)
    expect(preflight.headers['access-control-allow-headers']).toContain('authorization')
  })

  test('a proxy is believed only where it is configured', async () => {
    const { text } = await makeKey()
    const made = async (through: FastifyInstance) => {
      const headers = {
        ...bearer(text),
        host: 'inner',
        'x-forwarded-proto': 'https',
        'x-forwarded-host': 'p.example',
      }
      const payload = { prompt: 'x', steps: 1 }
      const answer = await through.inject({ method: 'POST', url: '/v1/generations', headers, payload })
      return answer.headers['location']
    }
    const behind = await start({ ATELIER_TRUST_PROXY: '10.0.0.0/8, loopback' })
    expect(await made(behind)).toMatch(/^https:\/\/p\.example\/v1\/generations\/gen_/)
    expect(await made(app)).toMatch(/^http:\/\/inner\/v1\/generations\/gen_/)
  })
})

describe('a contract that does not say who may call', () => {
  const changed = (operation: object): Contract['document'] => {
    const { document } = readContract()
    const path = document.paths['/v1/models']!
    return {
      ...document,
      paths: { ...document.paths, '/v1/models': { get: { ...path['get']!, ...operation } } },
    }
  }

  test.each([
    [{ security: undefined }, 'does not say under "security" who may call listModels'],
    [{ security: [{ apiKey: [] }] }, 'asks of callers of listModels what nobody enforces'],
    [{ security: [{ apiKey: ['root'] }] }, 'what nobody enforces: {"apiKey":["root"]}'],
    [{ security: [{ oauth: ['read'] }] }, 'what nobody enforces: {"oauth":["read"]}'],
    [{ security: [{}] }, 'what nobody enforces: {}'],
  ])('%j starts no server', (operation, message) => {
    expect(() => readRequirements(changed(operation))).toThrow(message)
  })
})

test('a request that nobody let in gets at nothing', async () => {
  const { callerOf } = await import('../../src/http/caller.ts')
  expect(() => callerOf({ raw: {} as never })).toThrow('nobody let in')
})
