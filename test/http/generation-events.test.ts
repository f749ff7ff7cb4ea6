/** `GET /v1/generations/{id}/events` through real sockets: order, resumption, keep-alive, and clients that leave. */
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import * as fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { SchemaGeneration, SchemaGenerationEvent } from '../../src/sdk/schema.ts'
import { paint } from '../generation/paint-pool.ts'
import { send } from './requests.ts'
import { validatorOf } from './schemas.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let address: string
let before: () => Promise<void> | void = () => undefined
let letGo: () => void = () => undefined

beforeAll(async () => {
  service = await startTestService({ before: () => before(), stepMs: 5 })
  app = await buildTestApp(service.generation, { keepAliveMs: 50 })
  address = await listen(app)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

afterEach(() => {
  letGo()
  before = () => undefined
})

function holdAll(): void {
  const { promise, resolve } = Promise.withResolvers<void>()
  before = () => promise
  letGo = resolve
}

async function create(body: object): Promise<SchemaGeneration> {
  const answer = await send(address, {
    method: 'POST',
    path: '/v1/generations',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  expect(answer.status).toBe(202)
  return JSON.parse(answer.body) as SchemaGeneration
}

interface Stream {
  readonly response: IncomingMessage
  /** Everything that has come so far. */
  text(): string
  hangUp(): void
  readonly ended: Promise<unknown>
}

async function open(id: string, headers: Record<string, string> = {}): Promise<Stream> {
  const { hostname, port } = new URL(address)
  const outgoing = request({ hostname, port, agent: false, path: `/v1/generations/${id}/events`, headers })
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  outgoing.on('error', () => undefined)
  let text = ''
  response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  response.on('error', () => undefined)
  const ended = new Promise((resolve) => response.once('close', resolve))
  return { response, text: () => text, hangUp: () => outgoing.destroy(), ended }
}

interface Received {
  readonly id: number
  readonly event: string
  readonly data: SchemaGenerationEvent
}

/** The events that came as a whole. */
function readAll(text: string): Received[] {
  const blocks = text.split('\n\n').slice(0, -1)
  return blocks.flatMap((block) => {
    const match = /^id: (\d+)\nevent: (\w+)\ndata: (.*)$/.exec(block)
    return match ? [{ id: Number(match[1]), event: match[2]!, data: JSON.parse(match[3]!) }] : []
  })
}

async function whole(id: string, headers: Record<string, string> = {}): Promise<Received[]> {
  const stream = await open(id, headers)
  expect(stream.response.statusCode).toBe(200)
  await stream.ended
  return readAll(stream.text())
}

const isEvent = validatorOf('GenerationEvent')

test('tells the whole story in order, in the contract’s words, and ends with its last event', async () => {
  const { id } = await create({ prompt: 'x', steps: 8, preview_every: 3, n: 2, size: '64x80' })
  const stream = await open(id)
  expect(stream.response.headers).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  await stream.ended
  const events = readAll(stream.text())
  expect(events.map((event) => event.id)).toEqual(events.map((_, index) => index + 1))
  expect(events.filter(({ data }) => !isEvent(data))).toEqual([])
  for (const { id: number, event, data } of events)
    expect(data).toMatchObject({ id: number, type: event, generation_id: id })
  const types = events.map(({ event }) => event)
  expect([types.at(0), types.at(1), types.at(-1)]).toEqual(['queued', 'started', 'succeeded'])
  for (const image of [0, 1]) {
    const steps = events.flatMap(({ data }) => (data.type === 'step' && data.image === image ? [data] : []))
    expect(steps.map(({ step }) => step)).toEqual(steps.map(({ step }) => step).toSorted((a, b) => a - b))
    expect(steps.at(-1)).toMatchObject({ step: 8, steps: 8, batch_rows: 2 })
    const previews = events.flatMap(({ data }) =>
      data.type === 'preview' && data.image === image ? [data] : [],
    )
    expect(previews).toMatchObject([
      { step: 3, width: 16, height: 20 },
      { step: 6, width: 16, height: 20 },
    ])
  }
  expect(events.at(-1)?.data).toMatchObject({ generation: { id, state: 'succeeded', images: [{}, {}] } })
})

test('shows previews by their links, as small WebP pictures', async () => {
  const { id } = await create({ prompt: 'x', steps: 3, preview_every: 1, seed: 5 })
  const previews = (await whole(id)).flatMap(({ data }) => (data.type === 'preview' ? [data] : []))
  expect(previews.map(({ step }) => step)).toEqual([1, 2])
  const [preview] = previews
  const answer = await fetch(preview!.url)
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('image/webp')
  const { data, info } = await sharp(await answer.bytes())
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  expect(info).toMatchObject({ width: preview!.width, height: preview!.height })
  // It is compressed with losses, and the noise that is painted here suffers: only the mean is sure.
  const mean = (bytes: Uint8Array) => bytes.reduce((sum, byte) => sum + byte, 0) / bytes.length
  expect(Math.abs(mean(data) - mean(paint({ seed: 6, seedIndex: 0, width: 16, height: 16 })))).toBeLessThan(
    10,
  )
  const [first] = await whole(id)
  expect((await send(address, { path: `/v1/generations/${id}/previews/${first!.id}` })).status).toBe(404)
})

/** Links are signed anew every minute. */
const unsigned = (events: readonly Received[]): unknown =>
  JSON.parse(JSON.stringify(events).replaceAll(/\?expires=[^"]*/g, ''))

describe('a connection that breaks', () => {
  test('at random places and is taken up again gets every event exactly once, in order', async () => {
    let broken = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 12 }),
        async (lifetimesMs) => {
          const { id } = await create({ prompt: 'x', steps: 30, preview_every: 4 })
          const seen: Received[] = []
          const lastSeen = () => seen.at(-1)
          for (const lifetimeMs of [...lifetimesMs, Infinity]) {
            const last = lastSeen()
            if (last && 'generation' in last.data) break
            if (last) broken++
            const stream = await open(id, last ? { 'last-event-id': String(last.id) } : {})
            if (lifetimeMs !== Infinity) setTimeout(() => stream.hangUp(), lifetimeMs)
            await stream.ended
            seen.push(...readAll(stream.text()))
          }
          expect(unsigned(seen)).toEqual(unsigned(await whole(id)))
          expect(seen.map((event) => event.id)).toEqual(seen.map((_, index) => index + 1))
          expect(lastSeen()?.event).toBe('succeeded')
        },
      ),
      { numRuns: 12 },
    )
    expect(broken).toBeGreaterThan(10)
  })

  test('after the last event is told that nothing follows', async () => {
    const { id } = await create({ prompt: 'x', steps: 1 })
    const last = (await whole(id)).at(-1)!
    const answer = await send(address, {
      path: `/v1/generations/${id}/events`,
      headers: { 'last-event-id': String(last.id) },
    })
    expect(answer).toMatchObject({ status: 204, body: '' })
  })
})

test('a silent stream is kept alive by comments', async () => {
  holdAll()
  const { id } = await create({ prompt: 'x', steps: 1 })
  const stream = await open(id)
  await vi.waitFor(() => expect(stream.text().match(/^: keep-alive$/gm)?.length).toBeGreaterThan(2), {
    timeout: 10_000,
  })
  letGo()
  await stream.ended
  expect(readAll(stream.text()).at(-1)?.event).toBe('succeeded')
})

test('a cancelled generation ends its streams', async () => {
  holdAll()
  const { id } = await create({ prompt: 'x', steps: 1 })
  const stream = await open(id)
  await send(address, { method: 'POST', path: `/v1/generations/${id}/cancel` })
  await stream.ended
  expect(readAll(stream.text()).at(-1)?.data).toMatchObject({
    type: 'cancelled',
    generation: { state: 'cancelled' },
  })
})

test('clients that leave leave nothing behind, and the generation goes on', async () => {
  holdAll()
  const { id } = await create({ prompt: 'x', steps: 1 })
  const stopped: string[] = []
  const { generation } = service
  const watched = await buildTestApp({
    ...generation,
    models: generation.models,
    ready: true,
    of: (caller) => ({
      ...generation.of(caller),
      async *events(...args) {
        try {
          yield* generation.events(...args)
        } finally {
          stopped.push(args[0])
        }
      },
    }),
  })
  const there = new URL(await listen(watched))
  const streams = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const controller = new AbortController()
      const answer = await fetch(new URL(`/v1/generations/${id}/events`, there), {
        signal: controller.signal,
      })
      return { answer, controller }
    }),
  )
  for (const { answer, controller } of streams) {
    const reader = answer.body!.getReader()
    await reader.read()
    controller.abort()
    await expect(reader.closed).rejects.toThrow('aborted')
  }
  await vi.waitFor(() => expect(stopped).toEqual(streams.map(() => id)), { timeout: 10_000 })
  letGo()
  expect((await whole(id)).at(-1)?.event).toBe('succeeded')
  await watched.close()
})

test('a server that shuts down ends the streams when it waits no longer, and another one goes on with them', async () => {
  holdAll()
  const { id } = await create({ prompt: 'x', steps: 1 })
  const leaving = await buildTestApp(service.generation, { drainMs: 0 })
  const there = await listen(leaving)
  const answer = await fetch(`${there}/v1/generations/${id}/events`)
  await leaving.close()
  const seen = readAll(await answer.text())
  expect(seen.map(({ event }) => event)).not.toContain('succeeded')
  letGo()
  const lastEventId = String(seen.at(-1)?.id ?? 0)
  expect([...seen, ...(await whole(id, { 'last-event-id': lastEventId }))]).toEqual(await whole(id))
})

describe('what is asked for', () => {
  test.each<[string | undefined, number]>([
    [undefined, 200],
    ['text/event-stream', 200],
    ['text/html, text/*;q=0.5', 200],
    ['*/*', 200],
    ['application/json', 406],
    ['*/*, text/event-stream;q=0', 406],
  ])('Accept %s is answered with %i', async (accept, status) => {
    const { id } = await create({ prompt: 'x', steps: 1 })
    const answer = await send(address, {
      path: `/v1/generations/${id}/events`,
      headers: accept === undefined ? {} : { accept },
    })
    expect(answer.status).toBe(status)
    const refusal = { error: { code: 'not_acceptable', param: 'Accept' } }
    expect(status === 406 ? JSON.parse(answer.body) : refusal).toMatchObject(refusal)
  })

  test.each(['', '-1', '1.5', 'last', '9999999999'])(
    'Last-Event-ID %j is refused by name',
    async (lastEventId) => {
      const answer = await send(address, {
        path: '/v1/generations/gen_0/events',
        headers: { 'last-event-id': lastEventId },
      })
      expect(answer.status).toBe(400)
      expect(JSON.parse(answer.body).error).toMatchObject({ param: 'Last-Event-ID' })
    },
  )

  test('HEAD gets the head alone', async () => {
    holdAll()
    const { id } = await create({ prompt: 'x', steps: 1 })
    const answer = await send(address, { method: 'HEAD', path: `/v1/generations/${id}/events` })
    expect(answer).toMatchObject({ status: 200, body: '' })
    expect(answer.headers['content-type']).toContain('text/event-stream')
  })
})
