/** `/v1/webhooks` and the webhook of a generation, with our own client and against a receiver. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { keyless } from '../../src/access/caller.ts'
import { startAccessService } from '../../src/access/service.ts'
import { parseAllowed } from '../../src/outbound/addresses.ts'
import { createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { startWebhookService, type WebhookService } from '../../src/webhooks/service.ts'
import { buildTestApp, listen, silent, startTestService, type TestService } from './server.ts'

let service: TestService
let webhooks: WebhookService
let app: FastifyInstance
let atelier: Atelier
let receiver: Server
let url: string
let came = 0

beforeAll(async () => {
  receiver = createServer((request, response) => {
    came += 1
    request.resume().on('end', () => response.writeHead(204).end())
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`
  service = await startTestService()
  const allowed = ['127.0.0.1'].map(parseAllowed).filter((entry) => entry !== undefined)
  webhooks = await startWebhookService({ storage: service.storage, log: silent, allowed })
  app = await buildTestApp(service.generation, { webhooks })
  atelier = createAtelier({ baseUrl: await listen(app), maxRetries: 0 })
})
afterAll(async () => {
  await app.close()
  await webhooks.close()
  await service.close()
  receiver.close()
})

test('an end is told, listed, and told again when asked', async () => {
  const { id } = await atelier.generations.create({ prompt: 'x', steps: 1, webhook: { url } })
  const delivered = async () => (await atelier.webhooks.deliveries({ generation_id: id })).data[0]
  await expect.poll(delivered, { timeout: 30_000 }).toMatchObject({
    object: 'webhook.delivery',
    generation_id: id,
    event: 'generation.succeeded',
    url,
    state: 'delivered',
    attempts: 1,
    last_status: 204,
    next_attempt_at: null,
  })
  const before = came
  const again = await atelier.webhooks.replay((await delivered())?.id ?? '')
  expect(again).toMatchObject({ state: 'pending', attempts: 0 })
  await expect.poll(() => came, { timeout: 30_000 }).toBe(before + 1)
})

test.each(['http://169.254.169.254/', 'http://0x7f.2/', 'ftp://example.com/', 'http://[::1]/', 'not a url'])(
  'a webhook at %s is refused when it is asked for',
  async (target) => {
    const asked = atelier.generations.create({ prompt: 'x', webhook: { url: target } })
    await expect(asked).rejects.toMatchObject({ status: 400, code: 'invalid_value', param: 'webhook.url' })
  },
)

test('secrets are told and rotated', async () => {
  const [first] = (await atelier.webhooks.secrets()).data
  expect(first?.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
  expect(first?.retires_at).toBeNull()
  const { data } = await atelier.webhooks.rotateSecret({ overlapSeconds: 60 })
  expect(data.map(({ secret, retires_at: end }) => [secret === first?.secret, end === null])).toEqual([
    [false, true],
    [true, false],
  ])
})

test('a delivery that does not exist is a 404 by name', async () => {
  const replay = atelier.webhooks.replay('msg_0')
  await expect(replay).rejects.toMatchObject({ status: 404, code: 'delivery_not_found', param: 'id' })
})

test('a key tells of every end at its own address, unless a request names another or the key has none any more', async () => {
  const access = await startAccessService({ database: service.storage.database, log: silent })
  const { project } = keyless
  const admin = await access.keys.create({ project, name: 'admin', scopes: ['admin', 'read'] })
  const guarded = await buildTestApp(service.generation, { access, webhooks })
  const baseUrl = await listen(guarded)
  onTestFinished(async () => {
    await guarded.close()
    await access.close()
  })
  const as = (apiKey: string) => createAtelier({ baseUrl, apiKey, maxRetries: 0 })
  const { keys, webhooks: deliveries } = as(admin.text)
  for (const webhook_url of ['http://169.254.169.254/', 'not a url']) {
    const refusal = { status: 400, code: 'invalid_value', param: 'webhook_url' }
    await expect(keys.create({ name: 'x', webhook_url })).rejects.toMatchObject(refusal)
    await expect(keys.update(admin.key.id, { webhook_url })).rejects.toMatchObject(refusal)
  }
  const { id: keyId, key } = await keys.create({ name: 'told', webhook_url: `${url}/key` })
  const { generations, images } = as(key)
  /** @returns where its end is told */
  const told = async (id: string) => {
    await service.generation.settled(id)
    return (await deliveries.deliveries({ generation_id: id })).data.map((delivery) => delivery.url)
  }
  const ask = async (webhook?: { url: string }) =>
    (await generations.create({ prompt: 'x', steps: 1, ...(webhook && { webhook }) })).id

  expect(await told(await ask())).toEqual([`${url}/key`])
  expect(await told(await ask({ url: `${url}/own` }))).toEqual([`${url}/own`])
  await images.generate({ prompt: 'in the dialect of others', steps: 1 })
  const { data } = await deliveries.deliveries()
  expect(data.map((delivery) => delivery.url)).toContain(`${url}/key`)
  expect(await keys.update(keyId, { webhook_url: `${url}/moved` })).toMatchObject({
    webhook_url: `${url}/moved`,
  })
  expect(await told(await ask())).toEqual([`${url}/moved`])
  expect(await keys.update(keyId, { webhook_url: null })).toMatchObject({ webhook_url: null })
  expect(await told(await ask())).toEqual([])
})
