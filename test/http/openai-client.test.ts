/** OpenAI's own client against a listening server. */
import type { FastifyInstance } from 'fastify'
import OpenAI, { APIError, BadRequestError, NotFoundError } from 'openai'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { validatorOf } from './schemas.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let openai: OpenAI
let before: () => Promise<void> | void = () => undefined
const isPartial = validatorOf('PartialImageEvent')
const isCompleted = validatorOf('CompletedImageEvent')

afterEach(() => {
  before = () => undefined
})

beforeAll(async () => {
  service = await startTestService({ before: () => before() })
  app = await buildTestApp(service.generation)
  openai = new OpenAI({ baseURL: `${await listen(app)}/v1`, apiKey: 'none', maxRetries: 0 })
})

afterAll(async () => {
  await app.close()
  await service.close()
})

test('makes a picture and reads it as base64', async () => {
  const { data, created, output_format, size } = await openai.images.generate({
    model: 'gpt-image-1',
    prompt: 'a lighthouse of blue glass',
    size: '256x256',
    quality: 'high',
    background: 'opaque',
    moderation: 'auto',
    output_format: 'jpeg',
    output_compression: 80,
    response_format: 'b64_json',
    user: 'user-1',
  })
  expect({ output_format, size }).toEqual({ output_format: 'jpeg', size: '256x256' })
  expect(Number.isSafeInteger(created)).toBe(true)
  const bytes = Buffer.from(data?.[0]?.b64_json ?? '', 'base64')
  expect(await sharp(bytes).metadata()).toMatchObject({ format: 'jpeg', width: 256, height: 256 })
})

test('makes pictures and fetches them by their links', async () => {
  const { data = [] } = await openai.images.generate({
    model: 'dall-e-3',
    prompt: 'x',
    n: 2,
    style: 'vivid',
    quality: 'hd',
  })
  expect(data).toHaveLength(2)
  for (const { url } of data) {
    const answer = await fetch(url ?? '')
    expect(answer.status).toBe(200)
    expect(await sharp(await answer.bytes()).metadata()).toMatchObject({
      format: 'png',
      width: 64,
      height: 64,
    })
  }
})

describe('streams', () => {
  const request = { prompt: 'x', size: '128x64', output_format: 'jpeg', quality: 'high' } as const

  test('partial pictures and the completed one', async () => {
    const events: OpenAI.ImageGenStreamEvent[] = []
    const stream = await openai.images.generate({ ...request, stream: true, partial_images: 2 })
    for await (const event of stream) events.push(event)
    const common = { background: 'opaque', quality: 'high', created_at: expect.any(Number) }
    expect(events).toMatchObject([
      { ...common, type: 'image_generation.partial_image', partial_image_index: 0, output_format: 'webp' },
      { ...common, type: 'image_generation.partial_image', partial_image_index: 1, output_format: 'webp' },
      { ...common, type: 'image_generation.completed', output_format: 'jpeg', size: '128x64' },
    ])
    for (const { b64_json, output_format, size } of events) {
      const { format, width, height } = await sharp(Buffer.from(b64_json, 'base64')).metadata()
      expect({ format, size: `${width}x${height}` }).toEqual({ format: output_format, size })
    }
    expect(events.at(-1)).toMatchObject({
      usage: { input_tokens: 0, output_tokens: 0, total_tokens: 0 },
      receipt: { batch_rows_max: 2, row_steps: 40 },
    })
    expect(events.filter((event) => !isPartial(event) && !isCompleted(event))).toEqual([])
  })

  test('the picture alone, without partial ones', async () => {
    const types: string[] = []
    for await (const { type } of await openai.images.generate({ ...request, stream: true })) types.push(type)
    expect(types).toEqual(['image_generation.completed'])
  })

  test('the same again for the same Idempotency-Key', async () => {
    const pictures: (string | undefined)[] = []
    const headers = { 'Idempotency-Key': 'streamed' }
    for (const _ of [1, 2]) {
      const stream = await openai.images.generate(
        { ...request, stream: true, partial_images: 1 },
        { headers },
      )
      pictures.push((await Array.fromAsync(stream)).at(-1)?.b64_json)
    }
    expect(pictures[0]).toBeTypeOf('string')
    expect(pictures[1]).toBe(pictures[0])
  })

  test('an error in the middle as its own error', async () => {
    before = () => {
      throw new Error('weights at /secret/path are broken')
    }
    const stream = await openai.images.generate({ ...request, stream: true })
    const failing = Array.fromAsync(stream)
    await expect(failing).rejects.toThrow(APIError)
    await expect(failing).rejects.toMatchObject({ code: 'generation_failed', type: 'server_error' })
    await expect(failing).rejects.not.toThrow('secret')
  })

  test('until the client stops listening, which cancels the generation', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    before = () => promise
    const stream = await openai.images.generate({ ...request, stream: true })
    await vi.waitFor(async () => expect((await service.generation.count()).running).toBe(1), {
      timeout: 10_000,
    })
    stream.controller.abort()
    const nothing = { queued: 0, running: 0 }
    await vi.waitFor(async () => expect(await service.generation.count()).toEqual(nothing), {
      timeout: 10_000,
    })
    resolve()
  })
})

test('lists and retrieves models', async () => {
  const ids: string[] = []
  for await (const model of openai.models.list()) ids.push(model.id)
  expect(ids).toEqual(['paint'])
  expect(await openai.models.retrieve('gpt-image-1')).toMatchObject({ id: 'paint', object: 'model' })
})

test('raises its own errors, with the field and the request id', async () => {
  const transparent = openai.images.generate({ prompt: 'x', background: 'transparent' })
  await expect(transparent).rejects.toThrow(BadRequestError)
  await expect(transparent).rejects.toMatchObject({
    param: 'background',
    code: 'invalid_value',
    requestID: expect.stringMatching(/^req_/),
  })
  await expect(openai.images.generate({ prompt: 'x', stream: true, n: 2 })).rejects.toMatchObject({
    status: 400,
    param: 'n',
  })
  await expect(openai.images.generate({ prompt: 'x', model: 'sdxl' })).rejects.toThrow(NotFoundError)
})
