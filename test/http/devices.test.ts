/** `GET /v1/devices`: what devices did, as administrators are told. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { send } from './requests.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

let service: TestService
let app: FastifyInstance
let address: string
let atelier: Atelier

beforeAll(async () => {
  service = await startTestService({ devices: 2 })
  app = await buildTestApp(service.generation)
  address = await listen(app)
  atelier = createAtelier({ baseUrl: address, maxRetries: 0 })
})
afterAll(async () => {
  await app.close()
  await service.close()
})

test('every device is told of, with as many seconds as were asked for, up to now', async () => {
  const { from, data } = await atelier.devices.list({ seconds: 60 })
  expect(data.map(({ name, state }) => [name, state])).toEqual([
    ['paint:0', 'ready'],
    ['paint:1', 'ready'],
  ])
  expect(data.map(({ serving, training }) => [serving.length, training.length])).toEqual([
    [60, 60],
    [60, 60],
  ])
  expect(Math.abs(from + 60 - Date.now() / 1000)).toBeLessThan(5)
  const [all] = (await atelier.devices.list()).data
  expect(all?.serving).toHaveLength(900)
})

test.each(['0', '901', 'x', '1.5'])('%s seconds are refused, with what was expected', async (seconds) => {
  const { status, body } = await send(address, { path: `/v1/devices?seconds=${seconds}` })
  expect([status, JSON.parse(body).error.param]).toEqual([400, 'seconds'])
})
