/** OpenAI's own client against a listening server. */
import type { FastifyInstance } from 'fastify'
import OpenAI, { BadRequestError, NotFoundError } from 'openai'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let openai: OpenAI

beforeAll(async () => {
  service = await startTestService()
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
  await expect(openai.images.generate({ prompt: 'x', stream: true })).rejects.toMatchObject({
    status: 400,
    param: 'stream',
  })
  await expect(openai.images.generate({ prompt: 'x', model: 'sdxl' })).rejects.toThrow(NotFoundError)
})
