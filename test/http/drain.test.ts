/** A server between the signal and its end: it says that it is not ready, and goes on until that may have been noticed. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { FastifyInstance } from 'fastify'
import { buildWorkerApp } from '../../src/http/worker-app.ts'
import { send } from './requests.ts'
import { buildTestApp, listen, silent, startTestService, type TestService } from './server.ts'
import { idleFineTuning } from './unreachable.ts'

let service: TestService
let app: FastifyInstance
let address: string
let told: AbortController
let letGo: () => void
let before: Promise<void>

beforeAll(async () => {
  service = await startTestService({ before: () => before })
})

afterAll(() => service.close())

async function start(drainMs: number): Promise<void> {
  told = new AbortController()
  ;({ promise: before, resolve: letGo } = Promise.withResolvers<void>())
  app = await buildTestApp(service.generation, { ending: told.signal, drainMs })
  address = await listen(app)
}

afterEach(async () => {
  letGo()
  await app.close()
  await nothingLeft()
})

const untilCounted = (counted: { queued: number; running: number }) =>
  vi.waitFor(async () => expect(await service.generation.count()).toEqual(counted), { timeout: 10_000 })
const nothingLeft = () => untilCounted({ queued: 0, running: 0 })

const json = { 'content-type': 'application/json' }
const create = {
  method: 'POST',
  path: '/v1/generations',
  headers: json,
  body: '{"prompt": "x", "steps": 1}',
}
const createAndWait = { ...create, headers: { ...json, prefer: 'wait=60' } }
const statusOf = async (path: string) => (await send(address, { path })).status

test('one that is told to end is alive and not ready, answers what comes, and asks its clients to go elsewhere', async () => {
  await start(0)
  letGo()
  expect(await statusOf('/readyz')).toBe(200)
  const stay = { ...createAndWait, headers: { ...createAndWait.headers, connection: 'keep-alive' } }
  expect((await send(address, stay)).headers).not.toMatchObject({ connection: 'close' })
  told.abort()
  const readiness = await send(address, { path: '/readyz' })
  expect(readiness).toMatchObject({ status: 503, headers: { 'retry-after': '5' } })
  expect(JSON.parse(readiness.body).error.code).toBe('shutting_down')
  expect(await statusOf('/livez')).toBe(200)
  const answer = await send(address, stay)
  expect(answer).toMatchObject({ status: 200, headers: { connection: 'close' } })
  expect(JSON.parse(answer.body).state).toBe('succeeded')
})

test('one that closes lets waiting clients and event streams come to their end, and takes nobody new', async () => {
  await start(60_000)
  const { id } = JSON.parse((await send(address, create)).body) as { id: string }
  const events = send(address, { path: `/v1/generations/${id}/events` })
  const waiting = send(address, createAndWait)
  await untilCounted({ queued: 0, running: 2 })
  told.abort()
  const closing = app.close()
  await vi.waitFor(() => expect(send(address, { path: '/livez' })).rejects.toThrow('ECONNREFUSED'))
  letGo()
  expect((await events).body).toContain('event: succeeded')
  expect(JSON.parse((await waiting).body).state).toBe('succeeded')
  await closing
})

test('a worker tells Prometheus of its pictures, and of the jobs that run on it', async () => {
  await start(0)
  const running = [{ id: 'ftjob_1', step: 3, steps: 40, loss: 0.25, imagesPerSecond: 1.5 }]
  const worker = await buildWorkerApp({
    generation: service.generation,
    fineTuning: {
      ...idleFineTuning,
      figures: async () => ({ ...(await idleFineTuning.figures()), running }),
    },
    ending: told.signal,
    logger: silent,
  })
  const { statusCode, headers, body } = await worker.inject('/metrics')
  expect([statusCode, headers['content-type']]).toEqual([200, expect.stringMatching(/^text\/plain;/)])
  expect(body).toMatch(/^atelier_device_state\{device="[^"]+",state="ready"\} 1$/m)
  expect(body.split('\n').filter((line) => line.includes('ftjob_1'))).toEqual([
    'atelier_training_job_step{job="ftjob_1"} 3',
    'atelier_training_job_steps{job="ftjob_1"} 40',
    'atelier_training_job_loss{job="ftjob_1"} 0.25',
    'atelier_training_job_images_per_second{job="ftjob_1"} 1.5',
  ])
  running.pop()
  expect((await worker.inject('/metrics')).body).not.toContain('job=')
  await worker.close()
})

test('a worker that is told to end is alive and not ready', async () => {
  await start(0)
  const worker = await buildWorkerApp({
    generation: service.generation,
    fineTuning: idleFineTuning,
    ending: told.signal,
    logger: silent,
  })
  const status = async (url: string) => (await worker.inject({ url })).statusCode
  expect(await status('/readyz')).toBe(200)
  told.abort()
  expect([await status('/readyz'), await status('/livez')]).toEqual([503, 200])
  await worker.close()
})
