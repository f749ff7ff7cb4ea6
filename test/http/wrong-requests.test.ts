/**
 * Property: whatever is wrong with a request, the answer is a 4xx in the one shape, with the field named where a field is at
 * fault; nothing reaches the engine, and the server goes on. The requests are generated from openapi.yaml.
 */
import * as fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { JsonSchema } from '../../src/http/validation.ts'
import { send, type RawRequest } from './requests.ts'
import { fieldsOf, validatorOf } from './schemas.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

const isError = validatorOf('Error')

/** The operations that take a body, by their paths. */
const bodies = {
  '/v1/images/generations': fieldsOf('GenerateImagesRequest'),
  '/v1/generations': fieldsOf('CreateGenerationRequest'),
} as const
const paths = Object.keys(bodies) as (keyof typeof bodies)[]
const anyPath = fc.constantFrom(...paths)

interface WrongRequest extends RawRequest {
  /** What must be said to be at fault; null means that no field is. */
  readonly param?: string | null
  readonly statuses: readonly number[]
}

/** Values that a schema must refuse, each by construction: another type, out of range, no member, too long, malformed. */
function wrongValue(schema: JsonSchema & { readonly pattern?: string }): fc.Arbitrary<unknown> {
  const types = [schema.type].flat()
  const wrong: fc.Arbitrary<unknown>[] = [fc.array(fc.jsonValue(), { maxLength: 3 })]
  if (!types.includes('object')) wrong.push(fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }))
  if (!types.includes('null')) wrong.push(fc.constant(null))
  if (!types.includes('boolean')) wrong.push(fc.boolean())
  if (!types.includes('string')) wrong.push(fc.string(), fc.integer().map(String))
  if (!types.includes('number') && !types.includes('integer'))
    wrong.push(fc.double({ noNaN: true, noDefaultInfinity: true }))
  if (types.includes('integer'))
    wrong.push(
      fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Number.isInteger(value)),
    )
  const { enum: members, minimum, maximum, minLength, maxLength, pattern } = schema
  if (members)
    wrong.push(fc.oneof(fc.string(), fc.integer(), fc.boolean()).filter((value) => !members.includes(value)))
  if (minimum !== undefined) wrong.push(fc.integer({ max: minimum - 1 }))
  if (maximum !== undefined) wrong.push(fc.double({ min: maximum + 1, noDefaultInfinity: true, noNaN: true }))
  if (minLength !== undefined) wrong.push(fc.constant(''))
  if (maxLength !== undefined) {
    const unit = fc.constantFrom('x', 'é', '😀', '\n')
    wrong.push(
      fc
        .tuple(unit, fc.integer({ min: maxLength + 1, max: maxLength + 50 }))
        .map(([text, times]) => `x${text.repeat(times)}`),
    )
  }
  if (pattern !== undefined) {
    const shape = new RegExp(pattern, 'u')
    const bad = fc.constantFrom(
      '\0',
      '\ud800',
      '\udc00',
      '0x64',
      '64X64',
      '64x',
      'auto ',
      '100000x64',
      '６４x64',
    )
    wrong.push(
      fc
        .tuple(fc.string(), bad, fc.string())
        .map((parts) => parts.join(''))
        .filter((text) => !shape.test(text)),
    )
  }
  return fc.oneof(...wrong)
}

const json = { 'content-type': 'application/json' }
const post = (
  body: string | Buffer,
  headers: Record<string, string> = json,
  path: string = '/v1/images/generations',
) => ({ method: 'POST', path, headers, body })
const valid = { prompt: 'a lighthouse', steps: 1 }
const shortText = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })

const allFields = paths.flatMap((path) =>
  Object.entries(bodies[path]).map(([name, schema]) => ({ path, name, schema })),
)
const wrongField = fc.constantFrom(...allFields).chain(({ path, name, schema }) =>
  wrongValue(schema).map((value): WrongRequest => ({
    ...post(JSON.stringify({ ...valid, [name]: value }), json, path),
    param: name,
    statuses: [400],
  })),
)

const unknownField = fc
  .tuple(fc.string({ minLength: 1, maxLength: 20 }), fc.jsonValue(), anyPath)
  .filter(([name, , path]) => !(name in bodies[path]) && name !== '__proto__')
  .map(([name, value, path]): WrongRequest => ({
    ...post(`{"prompt":"x",${JSON.stringify(name)}:${JSON.stringify(value)}}`, json, path),
    param: name,
    statuses: [400],
  }))

const outOfLimits = fc
  .oneof(
    fc.constantFrom('63x64', '64x63', '2049x64', '64x2049', '1x1', '99999x99999').map((size) => ({ size })),
    fc.integer({ min: 2, max: 10 }).map((n) => ({ seed_index: 99, n })),
    shortText.filter((name) => name !== 'paint').map((model) => ({ model })),
  )
  .chain((wrong) => anyPath.map((path) => ({ wrong, path })))
  .map(({ wrong, path }): WrongRequest => ({
    ...post(JSON.stringify({ ...valid, ...wrong }), json, path),
    param: Object.keys(wrong)[0] ?? null,
    statuses: [400, 404],
  }))

const malformedBody = fc
  .oneof(
    fc.nat({ max: JSON.stringify(valid).length - 1 }).map((length) => JSON.stringify(valid).slice(0, length)),
    fc
      .uint8Array({ maxLength: 40 })
      .map((bytes) => Buffer.concat([Buffer.from('{'), bytes, Buffer.from([0xff])])),
    fc
      .oneof(
        fc.array(fc.jsonValue()),
        fc.string(),
        fc.double({ noNaN: true }),
        fc.boolean(),
        fc.constant(null),
      )
      .map((value) => JSON.stringify(value)),
  )
  .chain((body) => anyPath.map((path): WrongRequest => ({ ...post(body, json, path), statuses: [400] })))

const wrongType = fc
  .oneof(
    fc.constantFrom(
      'text/plain',
      'text/json',
      'application/xml',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=a',
      'image/png',
    ),
    fc.stringMatching(/^[a-z]{1,8}\/[a-z.+-]{1,12}$/).filter((type) => type !== 'application/json'),
    fc.stringMatching(/^[\x21-\x7e]{1,20}$/).filter((type) => !/^application\/json/i.test(type)),
  )
  .map((type): WrongRequest => ({
    ...post(JSON.stringify(valid), { 'content-type': type }),
    statuses: [415],
  }))

const hugeBody = fc
  .integer({ min: 262_145, max: 300_000 })
  .map((length): WrongRequest => ({ ...post(' '.repeat(length)), statuses: [413] }))

const wrongAddress = fc
  .oneof(
    shortText.map((id) => ({ path: `/v1/images/${encodeURIComponent(id)}`, param: 'id' })),
    shortText.map((id) => ({ path: `/v1/images/${encodeURIComponent(id)}/content`, param: 'id' })),
    fc
      .tuple(shortText, fc.constantFrom('', '/events'))
      .map(([id, rest]) => ({ path: `/v1/generations/${encodeURIComponent(id)}${rest}`, param: 'id' })),
    shortText.map((id) => ({
      method: 'POST',
      path: `/v1/generations/${encodeURIComponent(id)}/cancel`,
      param: 'id',
    })),
    shortText.map((id) => ({
      method: 'DELETE',
      path: `/v1/generations/${encodeURIComponent(id)}`,
      param: 'id',
    })),
    shortText.map((number) => ({
      path: `/v1/generations/gen_0/previews/${encodeURIComponent(number)}`,
      param: 'number',
    })),
    fc
      .tuple(fc.constantFrom('limit', 'cursor', 'state', 'created_after', 'created_before'), shortText)
      .filter(([name, value]) => !/^\d+$/.test(value) || name !== 'limit')
      .map(([name, value]) => ({
        path: `/v1/generations?${name}=${encodeURIComponent(value)}`,
        param: name,
      })),
    shortText
      .filter((id) => id !== 'paint')
      .map((id) => ({ path: `/v1/models/${encodeURIComponent(id)}`, param: 'model' })),
    fc
      .constantFrom('%', '%0', '%zz', '%ff', '%c3%28', 'x'.repeat(400))
      .map((id) => ({ path: `/v1/images/${id}` })),
    fc
      .tuple(fc.constantFrom('/v1/models', '/livez', '/openapi.yaml'), fc.stringMatching(/^[a-z]{1,8}$/))
      .map(([path, name]) => ({ path: `${path}?${name}=1`, param: name })),
    fc
      .webPath()
      .filter((path) => !/^(\/?$|\/(v1|livez|readyz|openapi|docs|studio))/.test(path))
      .map((path) => ({ path })),
    fc
      .constantFrom('PUT', 'DELETE', 'PATCH', 'OPTIONS')
      .chain((method) => anyPath.map((path) => ({ method, path }))),
  )
  .map((request): WrongRequest => ({ ...request, statuses: [400, 404, 405, 414] }))

const wrongHeader = fc.oneof(
  fc.tuple(fc.constantFrom('', 'k'.repeat(256), 'ü', 'a\tb'), anyPath).map(([key, path]): WrongRequest => ({
    ...post(JSON.stringify(valid), { ...json, 'Idempotency-Key': key }, path),
    param: 'Idempotency-Key',
    statuses: [400],
  })),
  fc.domain().map((host): WrongRequest => ({
    ...post(JSON.stringify(valid), { ...json, host }),
    param: 'Host',
    statuses: [403],
  })),
  fc.webUrl().map((origin): WrongRequest => ({
    ...post(JSON.stringify(valid), { ...json, origin }),
    param: 'Origin',
    statuses: [403],
  })),
  fc.integer({ min: 20_000, max: 60_000 }).map((length): WrongRequest => ({
    path: '/livez',
    headers: { 'x-large': 'x'.repeat(length) },
    statuses: [431],
  })),
)

const wrongRequest = fc.oneof(
  { arbitrary: wrongField, weight: 8 },
  { arbitrary: unknownField, weight: 2 },
  { arbitrary: outOfLimits, weight: 1 },
  { arbitrary: malformedBody, weight: 2 },
  { arbitrary: wrongType, weight: 1 },
  { arbitrary: wrongAddress, weight: 3 },
  { arbitrary: wrongHeader, weight: 2 },
  { arbitrary: hugeBody, weight: 1 },
)

let service: TestService
let app: FastifyInstance
let address: string

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation)
  address = await listen(app)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

test('every wrong request is refused, and the server goes on', async () => {
  await fc.assert(
    fc.asyncProperty(wrongRequest, async ({ statuses, param, ...request }) => {
      const answer = await send(address, request)
      expect(statuses).toContain(answer.status)
      const body: unknown = JSON.parse(answer.body)
      expect(isError(body) ? [] : isError.errors).toEqual([])
      const { error } = body as { error: { param: string | null; message: string; request_id: string } }
      expect(error.param).toBe(param === undefined ? error.param : param)
      const saysWhy = typeof param !== 'string' || /: expected ./.test(error.message)
      expect({ saysWhy, message: error.message }).toEqual({ saysWhy: true, message: error.message })
      expect(answer.headers['x-request-id']).toBe(error.request_id)
    }),
    { numRuns: 500 },
  )
  expect(service.pool.requests).toEqual([])
  expect(await send(address, post(JSON.stringify(valid)))).toMatchObject({ status: 200 })
})
