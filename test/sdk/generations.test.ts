/** The client's native API against a listening server, over connections that break. */
import { randomUUID } from 'node:crypto'
import * as fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { AtelierError, createAtelier, type Atelier, type SchemaGenerationEvent } from '../../src/sdk/index.ts'
import { readMessages } from '../../src/sdk/server-sent-events.ts'
import { buildTestApp, listen, startTestService, type TestService } from '../http/server.ts'

let service: TestService
let app: FastifyInstance
let baseUrl: string
let atelier: Atelier
let before: () => Promise<void> | void = () => undefined
let letGo: () => void = () => undefined

beforeAll(async () => {
  service = await startTestService({ before: () => before(), stepMs: 3 })
  app = await buildTestApp(service.generation)
  baseUrl = await listen(app)
  atelier = createAtelier({ baseUrl, maxRetries: 0 })
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

test('a generation is created, waited for, retrieved and deleted', async () => {
  const { id, state } = await atelier.generations.create({ prompt: 'x', steps: 2, priority: 'low' })
  expect(['queued', 'running']).toContain(state)
  const ended = await atelier.generations.wait(id)
  expect(ended).toMatchObject({ id, state: 'succeeded', priority: 'low', receipt: { row_steps: 4 } })
  expect(await atelier.generations.retrieve(id)).toEqual(ended)
  expect((await atelier.images.content(ended.images[0]!.id)).bytes).toHaveLength(ended.images[0]!.size_bytes)
  await atelier.generations.delete(id)
  await expect(atelier.generations.retrieve(id)).rejects.toMatchObject({
    status: 404,
    code: 'generation_not_found',
  })
  await expect(atelier.generations.delete(id)).rejects.toThrow(AtelierError)
})

test('a generation can be had at once when it is quick, and made once for a key', async () => {
  const options = { waitSeconds: 60, idempotencyKey: randomUUID() }
  const [first, twin] = await Promise.all(
    [1, 2].map(() => atelier.generations.create({ prompt: 'x', steps: 1 }, options)),
  )
  expect(first).toMatchObject({ state: 'succeeded' })
  expect(twin).toEqual(first)
})

test('a generation is cancelled, and whoever waits is told', async () => {
  holdAll()
  const { id } = await atelier.generations.create({ prompt: 'x' })
  const waiting = atelier.generations.wait(id)
  expect(await atelier.generations.cancel(id, { idempotencyKey: randomUUID() })).toMatchObject({
    state: 'cancelled',
  })
  expect(await waiting).toMatchObject({ id, state: 'cancelled' })
})

test('the list goes on over its pages', async () => {
  const made: string[] = []
  for (let i = 0; i < 5; i++) made.unshift((await atelier.generations.create({ prompt: 'x', steps: 1 })).id)
  const listed: string[] = []
  for await (const { id } of atelier.generations.list({ limit: 2 })) {
    listed.push(id)
    if (listed.length === 5) break
  }
  expect(listed).toEqual(made)
  for (const id of made) await atelier.generations.wait(id)
  const page = await atelier.generations.page({ limit: 2, state: 'succeeded' })
  expect(page.data).toHaveLength(2)
})

/** A client whose streams break after so many bytes each; the last ones hold. */
function fragile(lifetimes: readonly number[]): { client: Atelier; connections: () => number } {
  let connections = 0
  const client = createAtelier({
    baseUrl,
    maxRetries: 2,
    maxDelayMs: 1,
    async fetch(request) {
      const response = await fetch(request)
      const left = lifetimes[connections++]
      if (left === undefined || response.body === null) return response
      return new Response(ReadableStream.from(cut(response.body, left)), response)
    },
  })
  return { client, connections: () => connections }
}

/** So many bytes of a stream, all of which arrive, and then a cut line. */
async function* cut(body: ReadableStream<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array> {
  let left = bytes
  for await (const chunk of body) {
    yield chunk.subarray(0, left)
    left -= chunk.length
    if (left <= 0) throw new Error('the line is cut')
  }
}

test('events come exactly once and in order, wherever the connection breaks', async () => {
  const probe = await atelier.generations.create({ prompt: 'x', steps: 20, preview_every: 2 })
  await atelier.generations.wait(probe.id)
  const stream = await (await fetch(`${baseUrl}/v1/generations/${probe.id}/events`)).text()
  const largestEvent = Math.max(...stream.split('\n\n').map((message) => message.length)) + 2
  let broken = 0
  await fc.assert(
    fc.asyncProperty(
      // Long enough for the largest event, so that there is progress between two breaks.
      fc.array(fc.integer({ min: largestEvent, max: 4 * largestEvent }), { minLength: 1, maxLength: 8 }),
      async (lifetimes) => {
        const { id } = await atelier.generations.create({ prompt: 'x', steps: 20, preview_every: 2 })
        const { client, connections } = fragile(lifetimes)
        const seen: SchemaGenerationEvent[] = await Array.fromAsync(client.generations.events(id))
        expect(seen).toEqual(await Array.fromAsync(atelier.generations.events(id)))
        expect(seen.map((event) => event.id)).toEqual(seen.map((_, index) => index + 1))
        expect(seen.at(-1)?.type).toBe('succeeded')
        broken += connections() - 1
      },
    ),
    { numRuns: 10 },
  )
  expect(broken).toBeGreaterThan(5)
})

test('events can be had from any of them on, and of an ended generation none is left after the last', async () => {
  const { id } = await atelier.generations.create({ prompt: 'x', steps: 2 })
  const all = await Array.fromAsync(atelier.generations.events(id))
  const later = await Array.fromAsync(atelier.generations.events(id, { afterEventId: 2 }))
  expect(later).toEqual(all.slice(2))
  const last = all.at(-1)!.id
  expect(await Array.fromAsync(atelier.generations.events(id, { afterEventId: last }))).toEqual([])
})

test('a connection that breaks again and again without an event in between is given up', async () => {
  holdAll()
  const { id } = await atelier.generations.create({ prompt: 'x' })
  const { client } = fragile(Array.from({ length: 10 }, () => 1))
  await expect(Array.fromAsync(client.generations.events(id))).rejects.toMatchObject({
    code: 'connection_failed',
  })
})

test('whoever stops listening ends the stream with the own reason', async () => {
  holdAll()
  const { id } = await atelier.generations.create({ prompt: 'x' })
  const caller = new AbortController()
  const events = atelier.generations.events(id, { signal: caller.signal })
  expect((await events.next()).value).toMatchObject({ type: 'queued' })
  const reason = new Error('the user pressed stop')
  caller.abort(reason)
  await expect(Array.fromAsync(events)).rejects.toBe(reason)
})

test('a picture is shown on the way and then completed', async () => {
  const shown = await Array.fromAsync(
    atelier.images.stream({ prompt: 'x', steps: 6, partial_images: 2, output_format: 'webp' }),
  )
  expect(shown).toMatchObject([
    { type: 'image_generation.partial_image', partial_image_index: 0 },
    { type: 'image_generation.partial_image', partial_image_index: 1 },
    { type: 'image_generation.completed', output_format: 'webp', model: 'paint' },
  ])
})

test('what goes wrong with a streamed picture is thrown, before and in the middle', async () => {
  const refused = Array.fromAsync(atelier.images.stream({ prompt: 'x', n: 2 }))
  await expect(refused).rejects.toMatchObject({ status: 400, param: 'n' })
  before = () => {
    throw new Error('broken')
  }
  const failed = Array.fromAsync(atelier.images.stream({ prompt: 'x' }))
  await expect(failed).rejects.toMatchObject({
    code: 'generation_failed',
    requestId: expect.stringMatching(/^req_/),
  })
})

test('a streamed picture that nobody looks at any more is cancelled', async () => {
  holdAll()
  const caller = new AbortController()
  const stream = Array.fromAsync(atelier.images.stream({ prompt: 'x' }, { signal: caller.signal }))
  const running = async () => (await service.generation.count()).running
  await vi.waitFor(async () => expect(await running()).toBe(1), { timeout: 10_000 })
  caller.abort(new Error('enough'))
  await expect(stream).rejects.toThrow('enough')
  await vi.waitFor(async () => expect(await running()).toBe(0), { timeout: 10_000 })
})

const bytes = new TextEncoder().encode(
  ': hello\r\n\r\nevent: a\rdata: 1\r\rdata:2\ndata\ndata:  3\n\nretry: 5\n\nevent: lost\ndata: é\n',
)

test('messages are read alike wherever the chunks end', async () => {
  const expected = [
    { event: 'a', data: '1' },
    { event: 'message', data: '2\n\n 3' },
  ]
  for (let cut = 0; cut <= bytes.length; cut++) {
    const body = ReadableStream.from([bytes.subarray(0, cut), bytes.subarray(cut)])
    expect(await Array.fromAsync(readMessages(body))).toEqual(expected)
  }
})

test('a stream that falls silent counts as broken', async () => {
  const silent = new ReadableStream<Uint8Array>()
  await expect(Array.fromAsync(readMessages(silent, 20))).rejects.toMatchObject({ code: 'connection_failed' })
})
