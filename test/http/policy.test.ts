/** The content policy through both dialects: a block list, and a moderation server that is really asked. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import type { FastifyInstance } from 'fastify'
import OpenAI, { BadRequestError } from 'openai'
import sharp from 'sharp'
import { afterEach, beforeAll, afterAll, expect, test } from 'vitest'
import { openContentPolicy, type ContentPolicy, type PolicyOptions } from '../../src/policy/service.ts'
import { createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { buildTestApp, listen, silent, startTestService, type TestService } from './server.ts'

interface Asked {
  readonly authorization: string | undefined
  readonly body: {
    readonly model: string
    readonly input: readonly (string | { readonly image_url: { readonly url: string } })[]
  }
}

let moderator: Server
let url: string
const asked: Asked[] = []
/** How the moderator answers. */
let manner: 'judges' | 'fails' | 'babbles' | 'is silent' = 'judges'
let refusesPictures = false

let policy: ContentPolicy
let service: TestService | undefined
let app: FastifyInstance | undefined
let openai: OpenAI
let atelier: Atelier

beforeAll(async () => {
  moderator = createServer((request, response) => {
    void json(request).then((body) => {
      asked.push({ authorization: request.headers.authorization, body: body as Asked['body'] })
      if (manner === 'is silent') return
      if (manner === 'fails') return response.writeHead(500).end()
      const { input } = body as Asked['body']
      const results = input.map((item) => ({
        flagged: typeof item === 'string' ? item.includes('cruel') : refusesPictures,
      }))
      const answer = manner === 'babbles' ? { results: [] } : { id: 'modr-1', model: 'm', results }
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    })
  }).listen(0, '127.0.0.1')
  await once(moderator, 'listening')
  url = `http://127.0.0.1:${(moderator.address() as AddressInfo).port}/v1/moderations`
})
afterAll(() => {
  moderator.closeAllConnections()
  moderator.close()
})
afterEach(async () => {
  await app?.close()
  await service?.close()
  app = undefined
  service = undefined
  asked.length = 0
  manner = 'judges'
  refusesPictures = false
})

async function start(options: Partial<PolicyOptions> = {}, ofPictures = false): Promise<void> {
  const moderation = { url, key: 'secret', model: 'omni', timeoutMs: 500, ofPictures }
  policy = await openContentPolicy({
    blockListFile: '',
    moderation,
    onFailure: 'refuse',
    log: silent,
    retryMs: 10,
    ...options,
  })
  service = await startTestService({ policy })
  app = await buildTestApp(service.generation)
  const address = await listen(app)
  openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'none', maxRetries: 0 })
  atelier = createAtelier({ baseUrl: address, maxRetries: 0 })
}

async function blockList(): Promise<string> {
  const file = join(temporaryFolder(), 'list.txt')
  await writeFile(file, 'bomb\n')
  return file
}

const refused = { status: 400, code: 'content_policy_violation' }

test('what is on the list is refused in both dialects, by its field, and counted; nothing is created', async () => {
  await start({ blockListFile: await blockList(), moderation: undefined })
  const thrown: unknown = await openai.images.generate({ prompt: 'a b0mb' }).catch((error: unknown) => error)
  expect(thrown).toBeInstanceOf(BadRequestError)
  expect(thrown).toMatchObject({ ...refused, type: 'invalid_request_error', param: 'prompt' })
  expect((thrown as BadRequestError).message).not.toContain('b0mb')
  await expect(atelier.generations.create({ prompt: 'x', negative_prompt: 'B.O.M.B' })).rejects.toMatchObject(
    {
      ...refused,
      param: 'negative_prompt',
    },
  )
  await openai.images.generate({ prompt: 'a bombastic cactus' })
  expect(await Array.fromAsync(atelier.generations.list())).toHaveLength(1)
  expect(policy.totals.before).toEqual({ allowed: 1, refused: 2, unjudged: 0 })
  const metrics = await (await fetch(`${openai.baseURL.replace('/v1', '')}/metrics`)).text()
  expect(metrics).toContain('atelier_policy_checks_total{hook="before",outcome="refused"} 2')
})

test('the moderation server is asked in its own shape, of every text that says something', async () => {
  await start()
  await openai.images.generate({ prompt: 'a cactus' })
  expect(asked).toEqual([{ authorization: 'Bearer secret', body: { model: 'omni', input: ['a cactus'] } }])
  const cruel = atelier.generations.create({ prompt: 'a cactus', negative_prompt: 'cruel' })
  await expect(cruel).rejects.toMatchObject({ ...refused, param: 'negative_prompt' })
  expect(asked[1]?.body.input).toEqual(['a cactus', 'cruel'])
})

test.each(['fails', 'babbles', 'is silent'] as const)(
  'where it %s nothing passes, unless it is told to',
  async (how) => {
    await start()
    manner = how
    await expect(openai.images.generate({ prompt: 'x' })).rejects.toMatchObject({
      status: 503,
      code: 'moderation_unavailable',
    })
    expect(policy.totals.before).toEqual({ allowed: 0, refused: 0, unjudged: 1 })
    await app?.close()
    await service?.close()
    await start({ onFailure: 'allow' })
    await openai.images.generate({ prompt: 'x' })
    expect(policy.totals.before).toEqual({ allowed: 0, refused: 0, unjudged: 1 })
  },
)

test('a picture that is refused ends its generation and is not kept, nor are its previews', async () => {
  await start({}, true)
  refusesPictures = true
  await expect(openai.images.generate({ prompt: 'x' })).rejects.toMatchObject(refused)
  const [shown] = asked.flatMap(({ body }) => body.input.filter((item) => typeof item === 'object'))
  const bytes = Buffer.from(shown?.image_url.url.replace('data:image/webp;base64,', '') ?? '', 'base64')
  expect((await sharp(bytes).metadata()).format).toBe('webp')

  const { id } = await atelier.generations.create({ prompt: 'x', steps: 4, preview_every: 1 })
  const ended = async () => (await atelier.generations.retrieve(id)).error
  await expect.poll(ended, { timeout: 30_000 }).toMatchObject({ code: 'content_policy_violation' })
  const blobs = await Array.fromAsync(service?.storage.blobs.list() ?? [])
  expect(blobs).toEqual([])
  expect(policy.totals.after).toMatchObject({ allowed: 0, unjudged: 0 })
  expect(policy.totals.after.refused).toBeGreaterThanOrEqual(2)
})

test('previews that passed go too when the picture does not', async () => {
  await start({}, true)
  let pictures = 0
  const id = await new Promise<string>((resolve, reject) => {
    moderator.prependListener('request', () => {
      pictures += 1
      if (pictures > 2) refusesPictures = true // after the prompt and the first preview
    })
    atelier.generations
      .create({ prompt: 'x', steps: 2, preview_every: 1 })
      .then(({ id }) => resolve(id), reject)
  })
  const ended = async () => (await atelier.generations.retrieve(id)).error
  await expect.poll(ended, { timeout: 30_000 }).toMatchObject({ code: 'content_policy_violation' })
  await expect.poll(() => Array.fromAsync(service?.storage.blobs.list() ?? [])).toEqual([])
})

test('a picture that nobody judged fails its generation with that word', async () => {
  await start({}, true)
  const made = openai.images.generate({ prompt: 'x' })
  await expect.poll(() => asked.length).toBe(1)
  manner = 'fails'
  await expect(made).rejects.toMatchObject({ status: 503, code: 'moderation_unavailable' })
  expect(asked).toHaveLength(1 + 3)
})
