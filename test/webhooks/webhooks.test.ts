/** A webhook is told what its generation came to, at least once, signed, and again and again until somebody listens. */
import { once } from 'node:events'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { pino } from 'pino'
import { Webhook as Verifier } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseAllowed } from '../../src/outbound/addresses.ts'
import { retryMs, webhookEvents, type Webhook } from '../../src/webhooks/deliveries.ts'
import { owned, type With } from '../access/owned.ts'
import { startWebhookService, type WebhookOptions, type WebhookService } from '../../src/webhooks/service.ts'
import { EngineError } from '../../src/engine/protocol.ts'
import { gate, useService } from '../generation/fixture.ts'

const fixture = useService()
const log = pino({ level: 'silent' })
const allowed = ['127.0.0.1'].map(parseAllowed).filter((entry) => entry !== undefined)

interface Came {
  readonly headers: IncomingHttpHeaders
  readonly body: string
}
let receiver: Server
let url: string
let came: Came[] = []
/** What the receiver answers, one after the other; then 204. */
let statuses: number[] = []
let hold: Promise<void> | undefined
let webhooks: With<WebhookService> | undefined

async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
  came.push({ headers: request.headers, body: await text(request) })
  await hold
  response.writeHead(statuses.shift() ?? 204).end()
}

beforeAll(async () => {
  receiver = createServer((request, response) => void receive(request, response)).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`
})
afterEach(async () => {
  await webhooks?.close()
  ;[came, statuses, hold, webhooks] = [[], [], undefined, undefined]
})
afterAll(() => receiver.close())

const start = async (changes: Partial<WebhookOptions> = {}) => {
  webhooks = owned(
    await startWebhookService({
      storage: fixture.storage,
      log,
      allowed,
      lookEveryMs: 50,
      ...changes,
    }),
  )
  return webhooks
}
const all: Webhook['events'] = webhookEvents
const create = (webhook: Webhook | undefined) => fixture.create({}, { webhook })
const deliveryOf = async (generationId: string) =>
  (await (webhooks ?? (await start())).deliveries({ generationId })).data[0]
const expectDelivery = (id: string, expected: object) =>
  expect.poll(() => deliveryOf(id), { timeout: 20_000 }).toMatchObject(expected)
/** As if its time had come. */
const makeDue = (generationId: string) =>
  fixture.storage.database.prisma.webhookDelivery.updateMany({
    where: { generationId },
    data: { dueAt: new Date(1000) },
  })

describe('the end of a generation', () => {
  test('is told once, signed so that a library verifies it', async () => {
    await fixture.start()
    const service = await start()
    const id = await create({ url, events: all })
    await expectDelivery(id, { state: 'delivered', attempts: 1, lastStatus: 204, lastError: null })
    expect(came).toHaveLength(1)
    const [{ headers, body }] = came as [Came]
    const [current] = await service.secrets()
    const message = new Verifier(current?.secret ?? '').verify(body, headers as Record<string, string>)
    expect(message).toEqual({ type: 'generation.succeeded', timestamp: expect.any(String), data: { id } })
    expect(headers['webhook-id']).toMatch(/^msg_[0-9a-f]{32}$/)
    expect(headers['content-type']).toBe('application/json')
  })

  test('is told whatever it is, where that was asked for', async () => {
    await fixture.start({
      before: () => {
        throw new EngineError('generation_failed', 'no')
      },
    })
    await start()
    const failed = await create({ url, events: all })
    await expectDelivery(failed, { state: 'delivered', event: 'generation.failed' })
    const unasked = await create({ url, events: ['generation.succeeded'] })
    await fixture.service.settled(unasked)
    const without = await create(undefined)
    await fixture.service.settled(without)
    expect(await deliveryOf(unasked)).toBeUndefined()
    expect(await deliveryOf(without)).toBeUndefined()
  })

  test('by cancelling is told too', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed })
    await start()
    const id = await create({ url, events: all })
    await fixture.service.cancel(id)
    await expectDelivery(id, { state: 'delivered', event: 'generation.cancelled' })
    expect(came).toHaveLength(1)
    open()
  })

  test('is told after a restart when nobody was there to tell it', async () => {
    await fixture.start()
    const id = await create({ url, events: all })
    await fixture.service.settled(id)
    expect(came).toEqual([])
    await start()
    await expectDelivery(id, { state: 'delivered' })
  })

  test('goes with the generation', async () => {
    await fixture.start()
    const id = await create({ url, events: all })
    await fixture.service.settled(id)
    await fixture.service.delete(id)
    expect(await fixture.storage.database.prisma.webhookDelivery.count()).toBe(0)
  })
})

describe('a delivery that is missed', () => {
  test('is tried again with the same id and the same bytes, later and later', async () => {
    statuses = [500, 302]
    await fixture.start()
    await start()
    const id = await create({ url, events: all })
    await expectDelivery(id, { state: 'pending', attempts: 1, lastStatus: 500 })
    const waits = ((await deliveryOf(id))?.dueAt.getTime() ?? 0) - Date.now()
    expect(waits).toBeGreaterThan(1_000)
    expect(waits).toBeLessThan(6_000)
    await makeDue(id)
    await expectDelivery(id, { state: 'pending', attempts: 2, lastStatus: 302 })
    await makeDue(id)
    await expectDelivery(id, { state: 'delivered', attempts: 3, lastStatus: 204 })
    expect(new Set(came.map(({ body }) => body)).size).toBe(1)
    expect(new Set(came.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(came).toHaveLength(3)
  })

  test('is given up after three days, and sent again when asked', async () => {
    statuses = [500]
    await fixture.start()
    const id = await create({ url, events: all })
    await fixture.service.settled(id)
    const { webhookDelivery } = fixture.storage.database.prisma
    const { giveUpAt, createdAt } = await webhookDelivery.findFirstOrThrow({ where: { generationId: id } })
    expect((giveUpAt.getTime() - createdAt.getTime()) / 86_400_000).toBeCloseTo(3, 3)
    await webhookDelivery.updateMany({ data: { giveUpAt: new Date() } })
    const service = await start()
    await expectDelivery(id, {
      state: 'failed',
      lastStatus: 500,
      lastError: 'expected a status of 200 to 299, got 500',
    })
    await service.replay((await deliveryOf(id))?.id ?? '')
    await expectDelivery(id, { state: 'delivered', attempts: 1 })
    expect(await service.replay('msg_0')).toBeUndefined()
  })

  test.each([
    [410, 'failed'],
    [404, 'pending'],
  ])('with %i is then %s', async (status, state) => {
    statuses = [status]
    await fixture.start()
    await start()
    const id = await create({ url, events: all })
    await expectDelivery(id, { state, lastStatus: status })
    expect(came).toHaveLength(1)
  })

  test('because its address leads inside is not tried again', async () => {
    await fixture.start()
    await start({ allowed: [], resolver: (_, done) => done(null, [{ address: '127.0.0.1', family: 4 }]) })
    const named = await create({ url: url.replace('127.0.0.1', 'inside.example'), events: all })
    await expectDelivery(named, {
      state: 'failed',
      lastStatus: null,
      lastError: expect.stringContaining('public internet'),
    })
    const plain = await create({ url, events: all })
    await expectDelivery(plain, { state: 'failed' })
    expect(came).toEqual([])
  })
})

test('what is being sent when the service stops is due again and does not count', async () => {
  const { passed, open } = gate()
  hold = passed
  await fixture.start()
  const service = await start()
  const id = await create({ url, events: all })
  await expect.poll(() => came.length).toBe(1)
  await service.close()
  expect(await fixture.storage.database.prisma.webhookDelivery.findFirst()).toMatchObject({
    state: 'pending',
    attempts: 0,
  })
  open()
  await start()
  await expectDelivery(id, { state: 'delivered', attempts: 1 })
})

test('two services at once send each delivery once', async () => {
  await fixture.start()
  const other = await startWebhookService({ storage: fixture.storage, log, allowed, lookEveryMs: 20 })
  await start({ lookEveryMs: 20 })
  const ids = await Promise.all(Array.from({ length: 12 }, () => create({ url, events: all })))
  for (const id of ids) await expectDelivery(id, { state: 'delivered', attempts: 1 })
  expect(came).toHaveLength(ids.length)
  await other.close()
})

test('during a rotation both secrets sign, and after it only the new one', async () => {
  await fixture.start()
  const service = await start()
  const [old] = await service.secrets()
  const [current, before, ...more] = await service.rotate(60)
  expect(more).toEqual([])
  expect(before?.secret).toBe(old?.secret)
  expect(current?.secret).not.toBe(old?.secret)
  await expectDelivery(await create({ url, events: all }), { state: 'delivered' })
  const [{ headers, body }] = came as [Came]
  for (const secret of [old, current])
    expect(() =>
      new Verifier(secret?.secret ?? '').verify(body, headers as Record<string, string>),
    ).not.toThrow()

  expect(await service.rotate(0)).toHaveLength(2) // the newest, and the one whose time is not over
  const prisma = fixture.storage.database.prisma
  await prisma.webhookSecret.updateMany({
    where: { retiresAt: { not: null } },
    data: { retiresAt: new Date(0) },
  })
  const [newest, ...others] = await service.secrets()
  expect(others).toEqual([])
  await expectDelivery(await create({ url, events: all }), { state: 'delivered' })
  const last = came.at(-1) as Came
  const verify = (secret: string) =>
    new Verifier(secret).verify(last.body, last.headers as Record<string, string>)
  expect(() => verify(newest?.secret ?? '')).not.toThrow()
  expect(() => verify(old?.secret ?? '')).toThrow('No matching signature')
})

test('deliveries are listed newest first, by pages, by state and by generation', async () => {
  await fixture.start()
  const ids: string[] = []
  for (let i = 0; i < 5; i++) {
    ids.push(await create({ url, events: all }))
    await fixture.service.settled(ids.at(-1) ?? '')
  }
  const service = await start()
  for (const id of ids) await expectDelivery(id, { state: 'delivered' })
  const seen: string[] = []
  let cursor: string | undefined
  do {
    const page = await service.deliveries({ limit: 2, cursor, state: 'delivered' })
    seen.push(...page.data.map(({ generationId }) => generationId))
    cursor = page.nextCursor
  } while (cursor !== undefined)
  expect(seen).toEqual(ids.toReversed())
  expect((await service.deliveries({ state: 'failed' })).data).toEqual([])
  await expect(service.deliveries({ cursor: 'msg_0' })).rejects.toMatchObject({ code: 'invalid_cursor' })
})

test('it is tried after 5 s, then four times as long each, at most every six hours', () => {
  const waits = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((attempt) => retryMs(attempt, () => 0.5) / 1000)
  expect(waits).toEqual([5, 20, 80, 320, 1280, 5120, 20_480, 21_600, 21_600])
  expect(retryMs(1, () => 0)).toBeCloseTo(4500)
  expect(retryMs(1, () => 1)).toBeCloseTo(5500)
})
