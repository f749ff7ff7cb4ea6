/** `/v1/generations` over the real service: asked for, waited for, listed, cancelled and deleted. */
import type { FastifyInstance } from 'fastify'
import supertest from 'supertest'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let before: () => Promise<void> | void = () => undefined
let letGo: () => void = () => undefined

beforeAll(async () => {
  service = await startTestService({ before: () => before() })
  app = await buildTestApp(service.generation)
  await listen(app)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

afterEach(async () => {
  letGo()
  before = () => undefined
  const unsettled = async () => Object.values(await service.generation.count()).some((count) => count > 0)
  await vi.waitUntil(async () => !(await unsettled()), { timeout: 10_000 })
})

const api = () => supertest(app.server)
const create = (body: object, headers: Record<string, string> = {}) =>
  api().post('/v1/generations').set(headers).send(body)
const wait = { Prefer: 'wait=60' }

/** Holds every picture before its first step, until `letGo` is called. */
function holdAll(): void {
  const { promise, resolve } = Promise.withResolvers<void>()
  before = () => promise
  letGo = resolve
}

const untilState = (id: string, state: string) =>
  vi.waitFor(async () => expect((await api().get(`/v1/generations/${id}`)).body).toMatchObject({ state }), {
    timeout: 10_000,
  })

describe('a generation', () => {
  test('is accepted at once, says where it is, and can be looked at until it ends', async () => {
    holdAll()
    const accepted = await create({ prompt: 'a lighthouse', n: 2, steps: 3 }).expect(202)
    const { id } = accepted.body
    expect(accepted.headers['location']).toMatch(
      new RegExp(`^http://127\\.0\\.0\\.1:\\d+/v1/generations/${id}$`),
    )
    expect(accepted.headers).not.toHaveProperty('preference-applied')
    expect(accepted.body).toMatchObject({ object: 'generation', images: [], receipt: null, error: null })
    await untilState(id, 'running')
    const { body: running } = await api().get(`/v1/generations/${id}`).expect(200)
    expect(running).toMatchObject({
      queue_position: null,
      progress: { step: 0, steps: 6 },
      finished_at: null,
    })
    expect(running.eta_seconds).toBeGreaterThanOrEqual(0)
    letGo()
    await untilState(id, 'succeeded')
    const { body } = await api().get(`/v1/generations/${id}`).expect(200)
    expect(body).toMatchObject({
      model: 'paint',
      model_version: 'paint-1',
      priority: 'normal',
      deadline: null,
      preview_steps: [],
      progress: null,
      eta_seconds: null,
      timings: { encode_ms: 1.25, denoise_ms: 2.5, decode_ms: 3.75 },
      receipt: {
        device_seconds: 0.06,
        row_steps: 12,
        batch_rows_mean: 2,
        batch_rows_max: 2,
        devices: ['paint:0'],
      },
    })
    expect(body.images).toHaveLength(2)
    for (const [index, image] of body.images.entries()) {
      expect(image).toMatchObject({
        index,
        seed: body.parameters.seed,
        seed_index: index,
        output_format: 'png',
      })
      const content = await api().get(new URL(image.url).pathname).expect(200)
      expect(content.body).toHaveLength(image.size_bytes)
    }
  })

  test('takes every field, and its parameters make it again', async () => {
    const everything = {
      prompt: 'a lighthouse',
      negative_prompt: 'people',
      model: 'dall-e-3',
      n: 2,
      size: '80x64',
      seed: 2 ** 53 - 1,
      seed_index: 4,
      steps: 5,
      guidance_scale: 2.5,
      scheduler: 'euler',
      clean_caption: true,
      output_format: 'webp',
      output_compression: 80,
    }
    const wishes = { priority: 'high', deadline: '2126-01-01T13:00:00+01:00', preview_every: 2, user: 'u-1' }
    const { body } = await create({ ...everything, ...wishes }, wait).expect(200)
    expect(body.parameters).toEqual({ ...everything, model: 'paint' })
    expect(body).toMatchObject({
      state: 'succeeded',
      priority: 'high',
      deadline: '2126-01-01T12:00:00.000Z',
      preview_steps: [2, 4],
      user: 'u-1',
    })
    const { body: again } = await create(body.parameters, wait).expect(200)
    expect(again.parameters).toEqual(body.parameters)
  })

  test('that fails says why, in general words', async () => {
    before = () => {
      throw new Error('weights at /secret/path are broken')
    }
    const { body, text } = await create({ prompt: 'x', steps: 1 }, wait).expect(200)
    expect(body).toMatchObject({
      state: 'failed',
      error: { code: 'generation_failed' },
      images: [],
      receipt: null,
    })
    expect(text).not.toContain('secret')
  })

  test('that does not exist is a 404 by name, whatever is asked of it', async () => {
    const nowhere = '/v1/generations/gen_00000000000000000000000000000000'
    for (const request of [
      api().get(nowhere),
      api().delete(nowhere),
      api().post(`${nowhere}/cancel`),
      api().get(`${nowhere}/events`),
    ]) {
      const { body } = await request.expect(404)
      expect(body.error).toMatchObject({ code: 'generation_not_found', param: 'id' })
    }
    const { body } = await api().get(`${nowhere}/previews/1`).expect(404)
    expect(body.error).toMatchObject({ code: 'preview_not_found', param: 'number' })
  })
})

describe('Prefer', () => {
  test('wait gets the finished generation when that is in time', async () => {
    const { headers } = await create(
      { prompt: 'x', steps: 1 },
      { Prefer: 'handling=strict, wait=9999' },
    ).expect(200)
    expect(headers['preference-applied']).toBe('wait=600')
  })

  test('wait gets the unfinished one when the time is over, and it goes on', async () => {
    holdAll()
    const { body, headers } = await create({ prompt: 'x', steps: 1 }, { Prefer: 'wait=1' }).expect(202)
    expect(headers['preference-applied']).toBe('wait=1')
    expect(['queued', 'running']).toContain(body.state)
    letGo()
    await untilState(body.id, 'succeeded')
  })
})

describe('cancel', () => {
  test('ends a generation that runs, and stops the engine', async () => {
    holdAll()
    const { body } = await create({ prompt: 'x', n: 2 }).expect(202)
    await untilState(body.id, 'running')
    const { started_at } = (await api().get(`/v1/generations/${body.id}`).expect(200)).body
    const cancelled = await api().post(`/v1/generations/${body.id}/cancel`).expect(200)
    expect(cancelled.body).toMatchObject({ id: body.id, state: 'cancelled', images: [], started_at })
    await vi.waitFor(
      () => expect(service.pool.aborted).toEqual(expect.arrayContaining([`${body.id}/0`, `${body.id}/1`])),
      {
        timeout: 10_000,
      },
    )
    letGo()
  })

  test('leaves one that has ended as it is', async () => {
    const { body } = await create({ prompt: 'x', steps: 1 }, wait).expect(200)
    const { body: after } = await api().post(`/v1/generations/${body.id}/cancel`).send({}).expect(200)
    expect(after).toEqual(body)
  })

  test('takes no body, whatever its type', async () => {
    const { body } = await create({ prompt: 'x', steps: 1 }, wait).expect(200)
    const json = { 'content-type': 'application/json' }
    await api().post(`/v1/generations/${body.id}/cancel`).set(json).expect(200)
    const refused = await api().post(`/v1/generations/${body.id}/cancel`).send({ why: 1 }).expect(400)
    expect(refused.body.error).toMatchObject({ code: 'unknown_parameter', param: 'body' })
  })
})

describe('delete', () => {
  test('removes a generation that has ended, with its pictures', async () => {
    const { body } = await create({ prompt: 'x', steps: 1 }, wait).expect(200)
    const { text } = await api().delete(`/v1/generations/${body.id}`).expect(204)
    expect(text).toBe('')
    await api().get(`/v1/generations/${body.id}`).expect(404)
    await api().get(`/v1/images/${body.images[0].id}`).expect(404)
    await api().delete(`/v1/generations/${body.id}`).expect(404)
  })

  test('is refused while it has not ended', async () => {
    holdAll()
    const { body } = await create({ prompt: 'x', steps: 1 }).expect(202)
    const refused = await api().delete(`/v1/generations/${body.id}`).expect(409)
    expect(refused.body.error).toMatchObject({ code: 'generation_not_settled', param: 'id' })
    letGo()
    await untilState(body.id, 'succeeded')
  })
})

test('delete of many erases prompts, pictures and previews of what has ended before a time, and nothing else', async () => {
  const made = [
    await create(
      { prompt: 'of my grandmother', negative_prompt: 'grandfather', steps: 2, preview_every: 1 },
      wait,
    ),
    await create({ prompt: 'of my grandmother', steps: 1 }, { ...wait, 'idempotency-key': 'to-be-erased' }),
  ]
  holdAll()
  const running = await create({ prompt: 'x', steps: 1 }).expect(202)
  const before = new Date().toISOString()
  const later = (await create({ prompt: 'y', steps: 1 }).expect(202)).body
  const { storage } = service
  const kept = (await Array.fromAsync(storage.blobs.list())).length
  const { body } = await api().delete(`/v1/generations?created_before=${before}`).expect(200)
  expect(body).toMatchObject({ object: 'generation.deletion' })
  expect(body.deleted).toBeGreaterThanOrEqual(2)
  for (const { body } of made) await api().get(`/v1/generations/${body.id}`).expect(404)
  await api().get(`/v1/generations/${running.body.id}`).expect(200)
  await api().get(`/v1/generations/${later.id}`).expect(200)
  expect((await Array.fromAsync(storage.blobs.list())).length).toBeLessThanOrEqual(kept - 3)
  const tables = await storage.database.prisma.$queryRaw<{ schema: string; name: string }[]>`
    SELECT table_schema AS "schema", table_name AS "name" FROM information_schema.tables
    WHERE table_type = 'BASE TABLE' AND table_schema IN ('public', 'pgboss')`
  for (const { schema, name } of tables) {
    const rows = await storage.database.prisma.$queryRawUnsafe<{ row: string }[]>(
      `SELECT to_jsonb(t)::text AS row FROM "${schema}"."${name}" AS t`,
    )
    expect({ name, rows: rows.filter(({ row }) => /grandmother|grandfather/.test(row)) }).toEqual({
      name,
      rows: [],
    })
  }
  await api().delete('/v1/generations').expect(400)
  letGo()
})

describe('Idempotency-Key', () => {
  test('two hundred twins are one generation, marked as replayed but once', async () => {
    const key = { 'Idempotency-Key': 'native-twins' }
    const twins = await Promise.all(
      Array.from({ length: 200 }, async () => create({ prompt: 'twins', steps: 1 }, key)),
    )
    expect(new Set(twins.map(({ status }) => status))).toEqual(new Set([202]))
    expect(new Set(twins.map(({ body }) => body.id)).size).toBe(1)
    expect(twins.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1)
  })

  test('belongs to one operation and one body', async () => {
    const key = { 'Idempotency-Key': 'native-once' }
    const { body } = await create({ prompt: 'x', steps: 1 }, { ...key, ...wait }).expect(200)
    for (const request of [
      create({ prompt: 'y', steps: 1 }, key),
      api().post('/v1/images/generations').set(key).send({ prompt: 'x', steps: 1 }),
      api().post(`/v1/generations/${body.id}/cancel`).set(key),
    ]) {
      const refused = await request.expect(422)
      expect(refused.body.error).toMatchObject({ code: 'idempotency_conflict', param: 'Idempotency-Key' })
    }
  })

  test('of a generation that was deleted makes no second one', async () => {
    const key = { 'Idempotency-Key': 'native-deleted' }
    const { body } = await create({ prompt: 'x', steps: 1 }, { ...key, ...wait }).expect(200)
    await api().delete(`/v1/generations/${body.id}`).expect(204)
    const refused = await create({ prompt: 'x', steps: 1 }, key).expect(410)
    expect(refused.body.error).toMatchObject({ code: 'generation_deleted', param: 'Idempotency-Key' })
  })

  test('replays a cancel, and is refused for that of another generation', async () => {
    const ended = async () => (await create({ prompt: 'x', steps: 1 }, wait).expect(200)).body.id
    const [one, other] = [await ended(), await ended()]
    const cancel = (id: string) =>
      api().post(`/v1/generations/${id}/cancel`).set('Idempotency-Key', 'cancel-1')
    expect((await cancel(one).expect(200)).headers).not.toHaveProperty('idempotency-replayed')
    expect((await cancel(one).expect(200)).headers['idempotency-replayed']).toBe('true')
    await cancel(other).expect(422)
  })
})

describe('the list', () => {
  const list = async (query: Record<string, string | number>) =>
    (await api().get('/v1/generations').query(query).expect(200)).body
  const ids = (page: { data: { id: string }[] }) => page.data.map(({ id }) => id)

  test('is walked page by page, newest first, each generation once, whatever is created meanwhile', async () => {
    const created_after = new Date().toISOString()
    const made: string[] = []
    for (let i = 0; i < 7; i++) made.unshift((await create({ prompt: `${i}`, steps: 1 }).expect(202)).body.id)
    const seen: string[] = []
    let cursor: string | undefined
    do {
      const page = await list({ created_after, limit: 3, ...(cursor && { cursor }) })
      expect(page.object).toBe('list')
      seen.push(...ids(page))
      cursor = page.next_cursor ?? undefined
      await create({ prompt: 'later', steps: 1 }).expect(202)
    } while (cursor !== undefined)
    expect(seen).toEqual(made)
  })

  test('is filtered by state, model and time', async () => {
    holdAll()
    const { body: held } = await create({ prompt: 'held', steps: 1 }).expect(202)
    await untilState(held.id, 'running')
    expect(ids(await list({ state: 'running' }))).toEqual([held.id])
    letGo()
    await untilState(held.id, 'succeeded')
    expect(ids(await list({ state: 'running' }))).toEqual([])
    expect(ids(await list({ model: 'gpt-image-1', limit: 1 }))).toEqual([held.id])
    expect(ids(await list({ model: 'gone' }))).toEqual([])
    expect(ids(await list({ created_after: held.created_at, limit: 100 }))).toEqual([held.id])
    expect(ids(await list({ created_before: held.created_at, limit: 100 }))).not.toContain(held.id)
  })

  test.each<[string, string]>([
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=ten', 'limit'],
    ['limit=1.0', 'limit'],
    ['limit=', 'limit'],
    ['limit=1&limit=2', 'limit'],
    ['cursor=nonsense', 'cursor'],
    ['cursor=%00', 'cursor'],
    ['state=done', 'state'],
    ['created_after=yesterday', 'created_after'],
    ['created_after=2026-02-30T00:00:00Z', 'created_after'],
    ['created_before=2016-12-31T23:59:60Z', 'created_before'],
    ['sort=asc', 'sort'],
  ])('refuses ?%s by name', async (query, param) => {
    const { body } = await api().get(`/v1/generations?${query}`).expect(400)
    expect(body.error).toMatchObject({ param })
    expect(body.error.message).toMatch(/: expected ./)
  })
})

test('metrics tell of the queue, the devices and the requests', async () => {
  await create({ prompt: 'x', steps: 4 }, wait).expect(200)
  const { text, headers } = await api().get('/metrics').expect(200)
  expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  for (const line of [
    /^atelier_generations\{state="queued"\} 0$/m,
    /^atelier_queue_oldest_age_seconds 0$/m,
    /^atelier_expected_wait_seconds 0$/m,
    /^atelier_generations_ended_total\{outcome="succeeded"\} [1-9]/m,
    /^atelier_device_state\{device="paint:0",state="ready"\} 1$/m,
    /^atelier_device_state\{device="paint:0",state="restarting"\} 0$/m,
    /^atelier_device_batch_rows\{device="paint:0"\} 2$/m,
    /^atelier_denoising_calls_total\{device="paint:0"\} 3$/m,
    /^atelier_denoising_rows_total\{device="paint:0"\} 6$/m,
    /^atelier_prompt_cache_hits_total\{device="paint:0"\} 0$/m,
    /^atelier_model_loaded\{model="paint"\} 1$/m,
    /^atelier_http_request_duration_seconds_count\{method="POST",route="\/v1\/generations",status="200"\} [1-9]/m,
    /^atelier_http_request_duration_seconds_bucket\{le="600",method="GET",route="\/v1\/generations\/:id",status="404"\} /m,
  ])
    expect(text).toMatch(line)
})
