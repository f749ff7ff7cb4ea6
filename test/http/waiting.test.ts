/** The blocking route while it blocks: clients that leave, full queues, failures, and a server that shuts down. */
import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { GenerationService } from '../../src/generation/service.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'
import { send } from './requests.ts'

let service: TestService
let app: FastifyInstance
let address: string
let generations: GenerationService
/** What a request meets before its first step. */
let before: () => Promise<void> | void = () => undefined

beforeAll(async () => {
  // A step counts as 10 ms, so that three requests of one step may be there at once.
  service = await startTestService({ before: () => before(), maxWaitMs: 25 })
  generations = service.generation
})

afterAll(() => service.close())

async function start(drainMs = 0): Promise<void> {
  service.pool.requests.length = 0
  service.pool.aborted.length = 0
  app = await buildTestApp(generations, { drainMs })
  address = await listen(app)
}

afterEach(async () => {
  before = () => undefined
  await app.close()
  await nothingLeft()
})

const untilCounted = (expected: { queued: number; running: number }) =>
  vi.waitFor(async () => expect(await generations.count()).toEqual(expected), { timeout: 10_000 })
const nothingLeft = () => untilCounted({ queued: 0, running: 0 })

const json = { 'content-type': 'application/json' }
const generation = (headers: Record<string, string> = {}, body: object = {}) => ({
  method: 'POST',
  path: '/v1/images/generations',
  headers: { ...json, ...headers },
  body: JSON.stringify({ prompt: 'x', steps: 1, ...body }),
})

const engineHasIt = () => vi.waitFor(() => expect(service.pool.requests).toHaveLength(1), { timeout: 10_000 })

/** Asks, and returns once the engine has the request; `leave` hangs up. */
async function ask(
  headers: Record<string, string> = {},
  more: object = {},
): Promise<{ leave: () => Promise<void> }> {
  const { hostname, port } = new URL(address)
  const { body, ...rest } = generation(headers, more)
  const outgoing = request({ hostname, port, agent: false, ...rest })
  const hungUp = new Promise<void>((resolve) => outgoing.once('error', () => resolve()))
  outgoing.end(body)
  await engineHasIt()
  return {
    leave() {
      outgoing.destroy(new Error('client left'))
      return hungUp
    },
  }
}

/** Holds every request before its first step. @returns what lets them go on */
function holdAll(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>()
  before = () => promise
  return resolve
}

test.each([{}, { stream: true }])('a client that leaves cancels its generation: %j', async (body) => {
  const letGo = holdAll()
  await start()
  const client = await ask({}, body)
  await client.leave()
  await vi.waitFor(() => expect(service.pool.aborted).toHaveLength(1), { timeout: 10_000 })
  await nothingLeft()
  letGo()
})

test('a client that leaves an Idempotency-Key gets its picture later', async () => {
  const letGo = holdAll()
  await start()
  const key = { 'Idempotency-Key': 'later' }
  const client = await ask(key)
  await client.leave()
  const again = send(address, generation(key))
  letGo()
  const { status, headers } = await again
  expect(status).toBe(200)
  expect(headers['idempotency-replayed']).toBe('true')
  expect(service.pool.requests).toHaveLength(1)
  expect(service.pool.aborted).toEqual([])
})

test('more than may wait is answered with 429 and when to come back', async () => {
  const letGo = holdAll()
  await start()
  const accepted: ReturnType<typeof send>[] = []
  // The worker holds two at once; one more may wait.
  for (const counts of [
    { queued: 0, running: 1 },
    { queued: 0, running: 2 },
    { queued: 1, running: 2 },
  ]) {
    accepted.push(send(address, generation()))
    await untilCounted(counts)
  }
  const { status, headers, body } = await send(address, generation())
  expect(status).toBe(429)
  expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1)
  expect(JSON.parse(body).error).toMatchObject({ code: 'queue_full', type: 'rate_limit_error' })
  letGo()
  expect((await Promise.all(accepted)).map((answer) => answer.status)).toEqual([200, 200, 200])
})

test('a failure of the device is told without its words', async () => {
  before = () => {
    throw new Error('weights at /secret/path are broken')
  }
  await start()
  const { status, body } = await send(address, generation())
  expect(status).toBe(500)
  expect(body).not.toContain('secret')
  expect(JSON.parse(body).error).toMatchObject({ code: 'generation_failed', type: 'server_error' })
})

test('a server that shuts down answers who waits, refuses who comes, and cancels nothing', async () => {
  const letGo = holdAll()
  await start()
  const waiting = send(address, generation())
  await engineHasIt()
  await app.close()
  const { status, headers, body } = await waiting
  expect(status).toBe(503)
  expect(headers).toMatchObject({ 'retry-after': '5', connection: 'close' })
  expect(JSON.parse(body).error.code).toBe('shutting_down')
  expect(service.pool.aborted).toEqual([])
  expect(await generations.count()).toEqual({ queued: 0, running: 1 })
  letGo()
})

test('a server that shuts down lets those finish who are nearly done', async () => {
  const letGo = holdAll()
  await start(60_000)
  const waiting = send(address, generation())
  await engineHasIt()
  const closed = app.close()
  letGo()
  expect((await waiting).status).toBe(200)
  await closed
})

test('a client that leaves a server that shuts down cancels nothing', async () => {
  const letGo = holdAll()
  await start(60_000)
  const client = await ask()
  const closed = app.close()
  await client.leave()
  await closed
  expect(service.pool.aborted).toEqual([])
  await untilCounted({ queued: 0, running: 1 })
  letGo()
})

test('a connection on which nothing was asked does not keep the server from closing', async () => {
  await start(60_000)
  const { hostname, port } = new URL(address)
  const silent = connect(Number(port), hostname)
  await once(silent, 'connect')
  const ended = once(silent, 'close')
  await send(address, { path: '/livez' })
  await app.close()
  silent.destroy()
  await ended
  expect(app.server.listening).toBe(false)
})
