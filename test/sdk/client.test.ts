/** The client against a listening server. */
import { createHash, randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { AtelierError, createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { buildTestApp, listen, startTestService, type TestService } from '../http/server.ts'

let service: TestService
let app: FastifyInstance
let baseUrl: string
let atelier: Atelier
let before: () => Promise<void> | void = () => undefined

beforeAll(async () => {
  service = await startTestService({ before: () => before() })
  app = await buildTestApp(service.generation)
  baseUrl = await listen(app)
  atelier = createAtelier({ baseUrl: `${baseUrl}/`, apiKey: 'unused', maxRetries: 0 })
})

afterAll(async () => {
  await app.close()
  await service.close()
})

afterEach(() => {
  before = () => undefined
})

test('a picture is made, described, fetched, and made again from its description', async () => {
  const made = await atelier.images.generate({
    prompt: 'a lighthouse',
    size: '80x64',
    n: 2,
    steps: 2,
    output_format: 'webp',
  })
  expect(made).toMatchObject({ model: 'paint', size: '80x64', output_format: 'webp' })
  const second = await atelier.images.retrieve(made.data[1]?.id ?? '')
  expect(second).toMatchObject({ index: 1, width: 80, height: 64, parameters: { seed_index: 1, n: 1 } })
  const { bytes, contentType } = await atelier.images.content(second.id)
  expect(contentType).toBe('image/webp')
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(second.sha256)

  const again = await atelier.images.generate(second.parameters)
  expect((await atelier.images.retrieve(again.data[0]?.id ?? '')).parameters).toEqual(second.parameters)
})

test('models are listed and retrieved', async () => {
  expect((await atelier.models.list()).data.map(({ id }) => id)).toEqual(['paint'])
  expect((await atelier.models.retrieve('dall-e-3')).id).toBe('paint')
})

test('the rest of the contract is there, typed, without throwing', async () => {
  const { data, error } = await atelier.raw.GET('/readyz')
  expect({ data, error }).toEqual({ data: { status: 'ready' }, error: undefined })
})

describe('errors are typed', () => {
  test('a refusal carries status, code, field and request id', async () => {
    const refused = atelier.images.generate({ prompt: 'x', steps: 500 })
    await expect(refused).rejects.toThrow(AtelierError)
    await expect(refused).rejects.toMatchObject({
      status: 400,
      code: 'invalid_value',
      param: 'steps',
      message: 'steps: expected a whole number from 1 to 100, got 500',
      requestId: expect.stringMatching(/^req_/),
    })
  })

  test('so does one about bytes', async () => {
    await expect(atelier.images.content('img_0')).rejects.toMatchObject({
      status: 404,
      code: 'image_not_found',
      param: 'id',
    })
  })

  test('a service that is not there is a failed connection', async () => {
    const nobody = createAtelier({ baseUrl: 'http://127.0.0.1:1', maxRetries: 0 })
    await expect(nobody.models.list()).rejects.toMatchObject({ code: 'connection_failed', status: undefined })
  })
})

describe('a call that is given up', () => {
  const held = () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    before = () => promise
    service.pool.requests.length = 0
    service.pool.aborted.length = 0
    return resolve
  }
  const engineHasIt = () =>
    vi.waitFor(() => expect(service.pool.requests).toHaveLength(1), { timeout: 10_000 })

  test('without a key ends the work at the server', async () => {
    const letGo = held()
    const caller = new AbortController()
    const call = atelier.images.generate({ prompt: 'x' }, { signal: caller.signal })
    await engineHasIt()
    const reason = new Error('the user pressed stop')
    caller.abort(reason)
    await expect(call).rejects.toBe(reason)
    await vi.waitFor(() => expect(service.pool.aborted).toHaveLength(1), { timeout: 10_000 })
    letGo()
  })

  test('with a key is finished, and the same call gets the picture', async () => {
    const letGo = held()
    const idempotencyKey = randomUUID()
    const hasty = createAtelier({ baseUrl, maxRetries: 0, timeoutMs: 300 })
    await expect(hasty.images.generate({ prompt: 'y' }, { idempotencyKey })).rejects.toMatchObject({
      code: 'timeout',
    })
    letGo()
    const { data } = await atelier.images.generate({ prompt: 'y' }, { idempotencyKey })
    expect(data).toHaveLength(1)
    expect(service.pool.requests).toHaveLength(1)
    expect(service.pool.aborted).toEqual([])
  })
})
