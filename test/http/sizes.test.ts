/** Pictures of other sizes than their model makes, over the real service and OpenAI's own client. */
import type { FastifyInstance } from 'fastify'
import OpenAI from 'openai'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { enlarge } from '../../src/diffusion/enlarge.ts'
import { createAtelier } from '../../src/sdk/index.ts'
import { readContract } from '../../src/http/contract.ts'
import { readParameters } from '../../src/http/limits.ts'
import { paint, paintModel } from '../generation/paint-pool.ts'
import { buildTestApp, listen, startTestService, testConfig, type TestService } from './server.ts'

const made = { width: 64, height: 64 }
const maxSide = 1024

let service: TestService
let app: FastifyInstance
let url: string

beforeAll(async () => {
  service = await startTestService({ madeAt: made })
  app = await buildTestApp(service.generation, {
    config: testConfig({ ATELIER_MAX_SIDE: String(maxSide) }),
  })
  url = await listen(app)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

const openai = () => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })
const atelier = () => createAtelier({ baseUrl: url, maxRetries: 0 })
const pixelsOf = async (base64 = '') =>
  new Uint8Array(await sharp(Buffer.from(base64, 'base64')).raw().toBuffer())

test('OpenAI’s client gets the size it always asks for, enlarged once, and is told so', async () => {
  const asked = { prompt: 'x', size: '1024x1024', n: 2, response_format: 'b64_json', seed: 5 } as const
  const answer = await openai().images.generate(asked)
  expect(answer).toMatchObject({ size: '1024x1024', generated_size: '64x64', upscaled: true })
  for (const [seedIndex, { b64_json }] of (answer.data ?? []).entries()) {
    const picture = paint({ seed: 5, seedIndex, ...made })
    const expected = enlarge(picture, made, { width: 1024, height: 1024 })
    expect(Buffer.compare(await pixelsOf(b64_json), expected)).toBe(0)
  }
})

test.each([
  ['wider than its bucket', '160x80', true],
  ['as it was made', '64x64', false],
  ['the model’s own square', 'auto', false],
])('a picture %s tells everywhere how it came to be', async (_, size, upscaled) => {
  const client = atelier()
  const whole = size === 'auto' ? '64x64' : size
  const { id } = await client.generations.create({ prompt: 'x', size, steps: 1 }, { waitSeconds: 20 })
  const { images, parameters } = await client.generations.retrieve(id)
  const origin = { generated_size: '64x64', upscaled }
  expect(parameters.size).toBe(whole)
  expect(images).toMatchObject([origin])
  const [image] = images
  const described = await client.images.retrieve(image!.id)
  expect(described).toMatchObject({ ...origin, width: image!.width, height: image!.height })
  const { bytes } = await client.images.content(image!.id)
  const { width, height } = await sharp(bytes).metadata()
  expect(`${width}x${height}`).toBe(whole)
})

test('a stream tells it of the finished picture, and its partial pictures are not enlarged', async () => {
  const stream = await openai().images.generate({
    prompt: 'x',
    size: '1024x1024',
    stream: true,
    partial_images: 1,
  })
  const events = await Array.fromAsync(stream)
  expect(events).toMatchObject([
    { type: 'image_generation.partial_image', size: '16x16' },
    {
      type: 'image_generation.completed',
      size: '1024x1024',
      generated_size: '64x64',
      upscaled: true,
    },
  ])
  for (const { b64_json, size } of events) {
    const { width, height } = await sharp(Buffer.from(b64_json, 'base64')).metadata()
    expect(`${width}x${height}`).toBe(size)
  }
})

describe('the largest side', () => {
  test('is told of each model, with the sizes that it makes', async () => {
    const model = await openai().models.retrieve('gpt-image-1')
    expect(model).toMatchObject({ base_size: 64, buckets: ['64x64'], min_side: 64, max_side: maxSide })
  })

  test('is refused beyond, with what came', async () => {
    await expect(openai().images.generate({ prompt: 'x', size: '1536x1024' })).rejects.toMatchObject({
      status: 400,
      param: 'size',
      message: expect.stringContaining(
        'expected "auto" or "WIDTHxHEIGHT" with each side from 64 to 1024 pixels, got "1536x1024"',
      ),
    })
  })
})

test('auto is no larger than the largest side', () => {
  const models = [{ ...paintModel, baseSize: 512 }]
  const limits = { contract: readContract(), config: testConfig({ ATELIER_MAX_SIDE: '128' }), models }
  expect(readParameters({ prompt: 'x' }, limits)).toMatchObject({ width: 128, height: 128 })
})
