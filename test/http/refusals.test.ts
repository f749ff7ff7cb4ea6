/** What each wrong request is told, word for word, and that nothing is coerced, stripped or answered out of shape. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildApp } from '../../src/http/app.ts'
import { buildTestApp, listen, silent, testConfig } from './server.ts'
import { send, sendBytes } from './requests.ts'
import {
  idleFineTuning,
  noKeys,
  unreachableDatasets,
  unreachableService,
  unreachableWebhooks,
} from './unreachable.ts'

let app: FastifyInstance
let address: string

beforeAll(async () => {
  app = await buildTestApp(unreachableService)
  address = await listen(app)
})

afterAll(() => app.close())

const json = { 'content-type': 'application/json' }
const post = (body: string | Buffer, headers: Record<string, string> = json) =>
  send(address, { method: 'POST', path: '/v1/images/generations', headers, body })
const errorOf = async (answer: Promise<{ status: number; body: string }>) => {
  const { status, body } = await answer
  const { error } = JSON.parse(body)
  return { status, ...error }
}

describe('a field at fault is named, with what was expected and what came', () => {
  const x = { prompt: 'x' }
  test.each<[object, string, string]>([
    [
      {},
      'missing_required_parameter',
      'prompt: expected a text of 1 to 4000 characters that is not blank and has no U+0000 and no unpaired surrogates, got nothing',
    ],
    [
      { prompt: '' },
      'invalid_value',
      'prompt: expected a text of 1 to 4000 characters that is not blank and has no U+0000 and no unpaired surrogates, got ""',
    ],
    [
      { prompt: '😀'.repeat(4001) },
      'invalid_value',
      'prompt: expected a text of 1 to 4000 characters that is not blank and has no U+0000 and no unpaired surrogates, got a text of 4001 characters',
    ],
    [
      { prompt: 7 },
      'invalid_type',
      'prompt: expected a text of 1 to 4000 characters that is not blank and has no U+0000 and no unpaired surrogates, got 7',
    ],
    [{ ...x, steps: 0 }, 'invalid_value', 'steps: expected a whole number from 1 to 100, got 0'],
    [{ ...x, steps: '20' }, 'invalid_type', 'steps: expected a whole number from 1 to 100, got "20"'],
    [{ ...x, steps: 2.5 }, 'invalid_type', 'steps: expected a whole number from 1 to 100, got 2.5'],
    [
      { ...x, seed: 2 ** 53 },
      'invalid_value',
      'seed: expected a whole number from 0 to 9007199254740991, got 9007199254740992',
    ],
    [
      { ...x, guidance_scale: 20.5 },
      'invalid_value',
      'guidance_scale: expected a number from 0 to 20, got 20.5',
    ],
    [{ ...x, n: [1] }, 'invalid_type', 'n: expected a whole number from 1 to 10, got a list of 1'],
    [{ ...x, clean_caption: 'yes' }, 'invalid_type', 'clean_caption: expected true or false, got "yes"'],
    [
      { ...x, output_format: 'gif' },
      'invalid_value',
      'output_format: expected one of "png", "jpeg", "webp", got "gif"',
    ],
    [
      { ...x, background: 'transparent' },
      'invalid_value',
      'background: expected "auto" or "opaque" (pictures have no alpha channel), got "transparent"',
    ],
    [{ ...x, stream: true, n: 2 }, 'invalid_value', 'n: expected 1 with stream, got 2'],
    [
      { ...x, stream: true, response_format: 'url' },
      'invalid_value',
      'response_format: expected "b64_json" with stream, got "url"',
    ],
    [{ ...x, partial_images: 1 }, 'invalid_value', 'partial_images: expected 0 without stream, got 1'],
    [
      { ...x, stream: true, partial_images: 4 },
      'invalid_value',
      'partial_images: expected a whole number from 0 to 3, got 4',
    ],
    [{ ...x, size: '64' }, 'invalid_value', 'size: expected "auto" or "WIDTHxHEIGHT" in pixels, got "64"'],
    [
      { ...x, size: '63x64' },
      'invalid_value',
      'size: expected "auto" or "WIDTHxHEIGHT" with each side from 64 to 2048 pixels, got "63x64"',
    ],
    [
      { ...x, size: '64x2049' },
      'invalid_value',
      'size: expected "auto" or "WIDTHxHEIGHT" with each side from 64 to 2048 pixels, got "64x2049"',
    ],
    [
      { ...x, scheduler: 'lcm', steps: 51 },
      'invalid_value',
      'steps: expected at most 50 with the scheduler lcm, got 51',
    ],
    [
      { ...x, scheduler: 'ddim' },
      'invalid_value',
      'scheduler: expected one of dpm++_2m, euler, lcm for this model, got "ddim"',
    ],
    [{ ...x, seed_index: 98, n: 3 }, 'invalid_value', 'seed_index: expected at most 97 with n 3, got 98'],
    [
      { ...x, model: 'sdxl' },
      'model_not_found',
      'model: expected one of "paint", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "dall-e-2", "dall-e-3", got "sdxl"',
    ],
  ])('%j', async (body, code, message) => {
    const error = await errorOf(post(JSON.stringify(body)))
    expect(error).toMatchObject({
      status: code === 'model_not_found' ? 404 : 400,
      type: 'invalid_request_error',
      code,
      message,
    })
    expect(error.param).toBe(message.slice(0, message.indexOf(':')))
  })

  test('4,000 characters are counted in code points, as people count them', async () => {
    const error = await errorOf(post(JSON.stringify({ prompt: '😀'.repeat(4000), steps: 0 })))
    expect(error.param).toBe('steps')
  })

  test.each(['\u0000', '\ud800', 'a\udfffb', ' \n\t\u3000'])(
    'a prompt that no database could hold, or that is blank: %j',
    async (prompt) => {
      expect(await errorOf(post(JSON.stringify({ prompt })))).toMatchObject({ status: 400, param: 'prompt' })
    },
  )

  test('an unknown field is refused and the known ones are listed', async () => {
    const error = await errorOf(post(JSON.stringify({ prompt: 'x', guidence: 3 })))
    expect(error).toMatchObject({ status: 400, code: 'unknown_parameter', param: 'guidence' })
    expect(error.message).toMatch(
      /^guidence: expected only prompt, negative_prompt, .*; there is no such field$/,
    )
  })

  test('an unknown query parameter is refused', async () => {
    const error = await errorOf(send(address, { path: '/v1/models?limit=2' }))
    expect(error).toMatchObject({ status: 400, code: 'unknown_parameter', param: 'limit' })
  })

  test.each(['', 'x'.repeat(256), 'schlüssel'])('Idempotency-Key %j is refused by name', async (key) => {
    const error = await errorOf(
      post('{"prompt":"x"}', { ...json, 'Idempotency-Key': Buffer.from(key).toString('latin1') }),
    )
    expect(error).toMatchObject({ status: 400, param: 'Idempotency-Key' })
  })
})

describe('a body that is no JSON object', () => {
  test.each([
    '',
    '{',
    '{"prompt":"x"',
    "{'prompt':'x'}",
    '\u0000',
    '{"prompt":"x"}{}',
    '{"__proto__":{"prompt":"x"}}',
  ])('is refused: %j', async (body) =>
    expect(await errorOf(post(body))).toMatchObject({ status: 400, code: 'malformed_json' }),
  )

  test.each(['null', '[]', '"x"', '7', 'true'])('is refused: %s', async (body) => {
    expect(await errorOf(post(body))).toMatchObject({ status: 400, code: 'invalid_type', param: 'body' })
  })

  test('is refused when it is missing altogether', async () => {
    expect(await errorOf(post('', {}))).toMatchObject({ status: 400, code: 'malformed_json', param: 'body' })
  })

  test('however deeply it nests, a field is only told what it is', async () => {
    const body = `{"prompt":${'['.repeat(50_000)}${']'.repeat(50_000)}}`
    expect(await errorOf(post(body))).toMatchObject({ status: 400, param: 'prompt' })
  })

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonx',
    'nonsense',
  ])('is refused when it comes as %s', async (type) => {
    const error = await errorOf(post('{"prompt":"x"}', { 'content-type': type }))
    expect(error).toMatchObject({ status: 415, code: 'unsupported_media_type' })
  })

  test('is refused when no type is given', async () => {
    expect(await errorOf(post('{"prompt":"x"}', {}))).toMatchObject({
      status: 415,
      code: 'unsupported_media_type',
    })
  })

  test('is refused when it is larger than any valid one', async () => {
    expect(await errorOf(post(JSON.stringify({ prompt: 'x'.repeat(300_000) })))).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
  })
})

describe('an address', () => {
  test('that nobody knows gets 404 with those that exist', async () => {
    const error = await errorOf(send(address, { path: '/v1/image' }))
    expect(error).toMatchObject({ status: 404, code: 'unknown_url', param: null })
    expect(error.message).toContain('POST /v1/images/generations')
  })

  test('that knows other methods gets 405 with Allow', async () => {
    const answer = await send(address, { method: 'DELETE', path: '/v1/models/paint' })
    expect(answer.status).toBe(405)
    expect(answer.headers.allow).toBe('GET, HEAD')
    expect((await send(address, { method: 'POST', path: '/v1/models' })).headers.allow).toBe('GET, HEAD')
  })

  test.each<[string, number, string]>([
    ['/v1/models/%zz', 400, 'malformed_request'],
    [`/v1/models/${'x'.repeat(300)}`, 414, 'url_too_long'],
  ])('that cannot be read is refused in shape: %s', async (path, status, code) => {
    const answer = await send(address, { path })
    expect(answer.headers['x-request-id']).toMatch(/^req_/)
    expect(JSON.parse(answer.body).error).toMatchObject({ code })
    expect(answer.status).toBe(status)
  })
})

test('what is not HTTP gets an answer of the same shape', async () => {
  const answer = await sendBytes(address, 'once upon a time\r\n\r\n')
  expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
  expect(JSON.parse(answer.slice(answer.indexOf('{'))).error).toMatchObject({
    code: 'malformed_request',
    param: null,
  })
})

describe('the request id', () => {
  test('is the client’s own where it is fit for a log', async () => {
    const answer = await send(address, { path: '/nowhere', headers: { 'x-request-id': 'trace-1.2' } })
    expect(answer.headers['x-request-id']).toBe('trace-1.2')
    expect(JSON.parse(answer.body).error.request_id).toBe('trace-1.2')
  })

  test.each(['', 'a b', '{"x":1}', 'x'.repeat(129)])('is ours where the client’s is not: %j', async (id) => {
    const answer = await send(address, { path: '/livez', headers: { 'x-request-id': id } })
    expect(answer.headers['x-request-id']).toMatch(/^req_[0-9a-f-]{36}$/)
  })
})

test('an unforeseen error keeps its text to the log', async () => {
  const { status, body, headers } = await post('{"prompt":"x"}')
  expect(status).toBe(500)
  expect(body).not.toContain('the service was asked')
  expect(JSON.parse(body).error).toMatchObject({
    code: 'internal_error',
    type: 'server_error',
    request_id: headers['x-request-id'],
  })
})

test('a service that is starting is alive and not ready', async () => {
  const starting = await buildTestApp({ ...unreachableService, models: [], ready: false })
  const there = await listen(starting)
  expect((await send(there, { path: '/livez' })).status).toBe(200)
  const readiness = await send(there, { path: '/readyz' })
  expect(readiness).toMatchObject({ status: 503, headers: { 'retry-after': '1' } })
  expect(JSON.parse(readiness.body).error.code).toBe('not_ready')
  await starting.close()
})

test('nothing tells which software answers', async () => {
  const { headers } = await send(address, { path: '/livez' })
  expect(Object.keys(headers).toSorted()).toEqual([
    'connection',
    'content-length',
    'content-security-policy',
    'content-type',
    'cross-origin-opener-policy',
    'cross-origin-resource-policy',
    'date',
    'origin-agent-cluster',
    'referrer-policy',
    'x-content-type-options',
    'x-dns-prefetch-control',
    'x-download-options',
    'x-frame-options',
    'x-permitted-cross-domain-policies',
    'x-request-id',
    'x-xss-protection',
  ])
})

test('logs name the request and never the prompt', async () => {
  const lines: string[] = []
  const { pino } = await import('pino')
  const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
  const logged = await buildApp({
    webhooks: unreachableWebhooks,
    urlKey: new Uint8Array(32),
    access: noKeys,
    generation: unreachableService,
    datasets: unreachableDatasets,
    fineTuning: idleFineTuning,
    config: testConfig(),
    logger,
  })
  const there = await listen(logged)
  for (const body of [{ prompt: 'secret lighthouse' }, { prompt: 'secret lighthouse', steps: 0 }]) {
    const headers = { ...json, 'x-request-id': 'trace-7' }
    await send(there, { method: 'POST', path: '/v1/images/generations', headers, body: JSON.stringify(body) })
  }
  await logged.close()
  const log = lines.join('')
  expect(log).not.toContain('secret')
  expect(lines.map((line) => JSON.parse(line)).filter((line) => line.msg === 'answered')).toMatchObject([
    { requestId: 'trace-7', method: 'POST', route: '/v1/images/generations', status: 500 },
    { requestId: 'trace-7', status: 400 },
  ])
})

test('an answer that breaks the contract does not pass these tests unseen', async () => {
  const [model] = unreachableService.models
  const broken = await buildTestApp(
    { ...unreachableService, models: [{ ...model!, version: 3 as unknown as string }] },
    { logger: silent },
  )
  const there = await listen(broken)
  expect((await send(there, { path: '/v1/models' })).status).toBe(500)
  await broken.close()
})
