/** `POST /v1/images/generations` and what can be fetched afterwards, over the real service. */
import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import sharp from 'sharp'
import supertest from 'supertest'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { paint } from '../generation/paint-pool.ts'
import { buildTestApp, startTestService, testConfig, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

const generate = (body: object, headers: Record<string, string> = {}, server = app) =>
  supertest(server.server).post('/v1/images/generations').set(headers).send(body)

const pixelsOf = async (bytes: Buffer) => sharp(bytes).removeAlpha().raw().toBuffer()

describe('a prompt alone', () => {
  test('gets one picture of the model’s square by link, with every default said', async () => {
    const { body, headers } = await generate({ prompt: 'a lighthouse' }).expect(200)
    expect(body).toMatchObject({
      model: 'paint',
      size: '64x64',
      output_format: 'png',
      background: 'opaque',
      prompt_truncated: false,
      receipt: {
        device_seconds: 0.2,
        row_steps: 40,
        batch_rows_mean: 2,
        batch_rows_max: 2,
        prompt_cached: false,
        devices: ['paint:0'],
      },
    })
    expect(body.id).toMatch(/^gen_/)
    expect(Math.abs(body.created - Date.now() / 1000)).toBeLessThan(60)
    expect(body.data).toEqual([
      { id: expect.stringMatching(/^img_/), seed: body.seed, seed_index: 0, url: expect.any(String) },
    ])
    expect(headers['x-request-id']).toMatch(/^req_[0-9a-f-]{36}$/)

    const [image] = body.data
    expect(image.url).toMatch(
      new RegExp(`^http://127\\.0\\.0\\.1:\\d+/v1/images/${image.id}/content\\?expires=\\d+&signature=`),
    )
    const metadata = await supertest(app.server).get(`/v1/images/${image.id}`).expect(200)
    expect(metadata.body.receipt).toEqual(body.receipt)
    expect(metadata.body.parameters).toEqual({
      model: 'paint',
      prompt: 'a lighthouse',
      negative_prompt: '',
      size: '64x64',
      n: 1,
      seed: body.seed,
      seed_index: 0,
      steps: 20,
      guidance_scale: 4.5,
      scheduler: 'dpm++_2m',
      clean_caption: false,
      output_format: 'png',
      output_compression: 100,
    })
  })

  test('draws a seed that differs from request to request and is a safe integer', async () => {
    const seeds = await Promise.all(
      [1, 2, 3].map(async () => (await generate({ prompt: 'x', steps: 1 }).expect(200)).body.seed),
    )
    expect(new Set(seeds).size).toBe(3)
    for (const seed of seeds) expect(Number.isSafeInteger(seed) && seed >= 0).toBe(true)
  })
})

describe('what the body says', () => {
  test('reaches the engine unchanged', async () => {
    const before = service.pool.requests.length
    await generate({
      prompt: 'Ein Leuchtturm 🌊',
      negative_prompt: 'people',
      model: 'dall-e-3',
      size: '96x128',
      seed: 2 ** 53 - 1,
      seed_index: 3,
      n: 2,
      steps: 7,
      guidance_scale: 0,
      scheduler: 'euler',
      clean_caption: true,
    }).expect(200)
    const common = {
      model: 'paint',
      prompt: 'Ein Leuchtturm 🌊',
      negativePrompt: 'people',
      width: 96,
      height: 128,
      seed: 2 ** 53 - 1,
      steps: 7,
      guidanceScale: 0,
      scheduler: 'euler',
      cleanCaption: true,
    }
    const requests = service.pool.requests.slice(before).toSorted((a, b) => a.seedIndex - b.seedIndex)
    expect(requests).toMatchObject([
      { ...common, seedIndex: 3 },
      { ...common, seedIndex: 4 },
    ])
  })

  test('null means left out', async () => {
    const nulls = {
      model: null,
      n: null,
      size: null,
      seed: null,
      steps: null,
      quality: null,
      stream: null,
      user: null,
    }
    const { body } = await generate({ prompt: 'x', ...nulls }).expect(200)
    expect(body).toMatchObject({ size: '64x64', model: 'paint' })
    expect(body.data).toHaveLength(1)
  })

  test('may hold what OpenAI’s clients send and what changes nothing here', async () => {
    const theirs = {
      quality: 'hd',
      style: 'vivid',
      moderation: 'low',
      background: 'opaque',
      stream: false,
      partial_images: 0,
    }
    const { body } = await generate({
      prompt: 'x',
      steps: 1,
      user: 'u-1',
      safety_identifier: '',
      ...theirs,
    }).expect(200)
    expect((await service.generation.get(body.id))?.user).toBe('u-1')
  })

  test.each(['png', 'jpeg', 'webp'])('output_format %s decides the format of the bytes', async (format) => {
    const { body } = await generate({
      prompt: 'x',
      steps: 1,
      seed: 9,
      output_format: format,
      response_format: 'b64_json',
    }).expect(200)
    const bytes = Buffer.from(body.data[0].b64_json, 'base64')
    expect(await sharp(bytes).metadata()).toMatchObject({ format, width: 64, height: 64 })
    expect(body.data[0]).not.toHaveProperty('url')
    const content = await supertest(app.server).get(`/v1/images/${body.data[0].id}/content`).expect(200)
    expect(content.headers['content-type']).toBe(`image/${format}`)
    expect(content.body).toEqual(bytes)
  })
})

test('each of several pictures says how to make it again alone, and that gives the same bytes', async () => {
  const several = await generate({ prompt: 'x', n: 3, steps: 2, seed_index: 1, size: '64x80' }).expect(200)
  expect(several.body.data.map((image: { seed_index: number }) => image.seed_index)).toEqual([1, 2, 3])
  for (const { id, seed, seed_index } of several.body.data) {
    const { body: first } = await supertest(app.server).get(`/v1/images/${id}`).expect(200)
    const again = await generate({ ...first.parameters, response_format: 'b64_json' }).expect(200)
    const bytes = Buffer.from(again.body.data[0].b64_json, 'base64')
    expect(await pixelsOf(bytes)).toEqual(
      Buffer.from(paint({ seed, seedIndex: seed_index, width: 64, height: 80 })),
    )
    const { body: second } = await supertest(app.server)
      .get(`/v1/images/${again.body.data[0].id}`)
      .expect(200)
    expect(second.sha256).toBe(createHash('sha256').update(bytes).digest('hex'))
    expect(second.parameters).toEqual(first.parameters)
  }
})

test('pictures are linked under ATELIER_PUBLIC_URL where it is set', async () => {
  const elsewhere = await buildTestApp(service.generation, {
    config: testConfig({ ATELIER_PUBLIC_URL: 'https://pictures.example/studio/' }),
  })
  const { body } = await generate({ prompt: 'x', steps: 1 }, {}, elsewhere).expect(200)
  const [address] = body.data[0].url.split('?')
  expect(address).toBe(`https://pictures.example/studio/v1/images/${body.data[0].id}/content`)
  await elsewhere.close()
})

describe('Idempotency-Key', () => {
  test('the same body again, even without a seed, gets the same pictures, marked as replayed', async () => {
    const key = { 'Idempotency-Key': 'twice' }
    const first = await generate({ prompt: 'x', steps: 2 }, key).expect(200)
    expect(first.headers).not.toHaveProperty('idempotency-replayed')
    const second = await generate({ prompt: 'x', steps: 2 }, key).expect(200)
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect({ ...second.body, data: [] }).toEqual({ ...first.body, data: [] })
    expect(second.body.data[0].id).toBe(first.body.data[0].id)
  })

  test('twenty twins at once run once', async () => {
    const before = service.pool.requests.length
    const twins = await Promise.all(
      Array.from({ length: 20 }, async () =>
        generate({ prompt: 'twins', steps: 2 }, { 'Idempotency-Key': 'twins' }).expect(200),
      ),
    )
    expect(new Set(twins.map(({ body }) => body.id)).size).toBe(1)
    expect(twins.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1)
    expect(service.pool.requests.length - before).toBe(1)
  })

  test('another body under the same key is refused', async () => {
    const key = { 'Idempotency-Key': 'conflict' }
    await generate({ prompt: 'x', steps: 1 }, key).expect(200)
    const { body } = await generate({ prompt: 'y', steps: 1 }, key).expect(422)
    expect(body.error).toMatchObject({
      code: 'idempotency_conflict',
      type: 'idempotency_error',
      param: 'Idempotency-Key',
    })
  })
})

describe('models', () => {
  test('are listed in OpenAI’s shape with what a client needs to know of them', async () => {
    const { body } = await supertest(app.server).get('/v1/models').expect(200)
    expect(body).toEqual({
      object: 'list',
      data: [
        {
          id: 'paint',
          object: 'model',
          created: expect.any(Number),
          owned_by: 'atelier',
          aliases: ['gpt-image-1', 'gpt-image-1-mini', 'gpt-image-1.5', 'dall-e-2', 'dall-e-3'],
          version: 'paint-1',
          origin: null,
          state: 'loaded',
          size_bytes: 1024,
          base_size: 64,
          buckets: ['64x64'],
          min_side: 64,
          max_side: 2048,
          default_scheduler: 'dpm++_2m',
          max_prompt_tokens: 120,
        },
      ],
    })
  })

  test('are found by name and by alias, and not by anything else', async () => {
    expect((await supertest(app.server).get('/v1/models/paint').expect(200)).body.id).toBe('paint')
    expect((await supertest(app.server).get('/v1/models/gpt-image-1').expect(200)).body.id).toBe('paint')
    const { body } = await supertest(app.server).get('/v1/models/org%2Fsdxl').expect(404)
    expect(body.error).toMatchObject({
      code: 'model_not_found',
      param: 'model',
      type: 'invalid_request_error',
    })
    expect(body.error.message).toContain('"org/sdxl"')
  })
})

test('the service tells that it lives and is ready, and hands out its contract', async () => {
  expect((await supertest(app.server).get('/livez').expect(200)).body).toEqual({ status: 'alive' })
  expect((await supertest(app.server).get('/readyz').expect(200)).body).toEqual({ status: 'ready' })
  const { text, headers } = await supertest(app.server).get('/openapi.yaml').buffer(true).expect(200)
  expect(headers['content-type']).toBe('application/yaml; charset=utf-8')
  expect(text).toMatch(/^openapi: 3\.1\.0\n/)
})
