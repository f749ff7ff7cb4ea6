import { createHash, randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { pino } from 'pino'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { EngineError } from '../../src/engine/protocol.ts'
import type { SettledGeneration } from '../../src/generation/generation.ts'
import { startGenerationService, type GenerationService } from '../../src/generation/service.ts'
import { GenerationLeases } from '../../src/generation/leases.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { owned, type With } from '../access/owned.ts'
import { storagePlace } from '../postgres/database.ts'
import { paint, paintPool, type PaintOptions, type PaintPool } from './paint-pool.ts'
import { someParameters } from './parameters.ts'

const log = pino({ level: 'silent' })
const sweep = { everyMs: 0, safetyAgeMs: 0 }
let dataDir: string
let storage: Storage
let service: With<GenerationService>
let pool: PaintPool

beforeAll(async () => {
  const place = await storagePlace()
  dataDir = place.dataDir
  storage = await openStorage({
    ...place,
    onError: (error) => {
      throw error
    },
  })
})
afterEach(async () => {
  await service.close()
  await storage.database.prisma.generation.deleteMany()
})
afterAll(() => storage.close())

async function start(options: PaintOptions & { maxWaitMs?: number; images?: number } = {}): Promise<void> {
  const { maxWaitMs = 1e9, images = 64, ...paint } = options
  pool = paintPool(paint)
  const window = { workMs: Infinity, images }
  service = owned(await startGenerationService({ storage, pool, log, maxWaitMs, window, sweep }))
  await service.swept
}

async function create(changes: Parameters<typeof someParameters>[0] = {}): Promise<string> {
  const { generation } = await service.create(someParameters(changes), { requestId: 'req' })
  return generation.id
}

async function succeeded(id: string): Promise<Extract<SettledGeneration, { state: 'succeeded' }>> {
  const generation = await service.settled(id)
  if (generation.state !== 'succeeded') throw new Error(`expected a success: ${JSON.stringify(generation)}`)
  return generation
}

/** Names of all files under blobs/, temporary ones too. */
const files = () =>
  readdirSync(join(dataDir, 'blobs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)

/** What is held now was held by a process that is gone. */
const forgetHolders = () =>
  storage.database.prisma.generation.updateMany({ where: { claimed: true }, data: { heldBy: null } })

/** A gate that requests wait at until it is opened. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { passed: promise, open: resolve }
}

test('a generation of three pictures is stored with the pixels, places and seeds of each', async () => {
  await start()
  const parameters = someParameters({ count: 3, seed: 2 ** 53 - 1, seedIndex: 4, guidanceScale: 0.1 + 0.2 })
  const { generation, replayed } = await service.create(parameters, { requestId: 'req_1', user: 'someone' })
  expect(replayed).toBe(false)
  expect(generation).toMatchObject({
    state: 'queued',
    attempt: 0,
    requestId: 'req_1',
    user: 'someone',
    parameters,
  })

  const done = await succeeded(generation.id)
  expect(done).toMatchObject({
    attempt: 1,
    modelVersion: 'paint-1',
    parameters,
    createdAt: generation.createdAt,
  })
  expect(done.startedAt.getTime()).toBeGreaterThanOrEqual(done.createdAt.getTime())
  expect(done.finishedAt.getTime()).toBeGreaterThanOrEqual(done.startedAt.getTime())
  expect(done.images.map(({ index, seedIndex }) => [index, seedIndex])).toEqual([
    [0, 4],
    [1, 5],
    [2, 6],
  ])
  for (const image of done.images) {
    expect(image).toMatchObject({
      id: expect.stringMatching(/^img_[0-9a-f]{32}$/),
      generationId: generation.id,
      seed: parameters.seed,
      width: 32,
      height: 16,
      bucket: { width: 32, height: 16 },
      promptTruncated: false,
      timings: { waitMs: 0.5, encodeMs: 1.25, denoiseMs: 2.5, decodeMs: 3.75, computeMs: 7.25 },
      receipt: {
        device: 'paint:0',
        deviceMs: 30,
        rowSteps: 6,
        meanBatchRows: 2,
        maxBatchRows: 2,
        promptCached: true,
      },
    })
    expect(await service.image(image.id)).toEqual(image)
    const bytes = await buffer(await service.openBlob(image.blobKey))
    expect(bytes).toHaveLength(image.sizeBytes)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(image.sha256)
    expect(new Uint8Array(await sharp(bytes).raw().toBuffer())).toEqual(
      paint({ ...parameters, seedIndex: image.seedIndex }),
    )
  }
  expect(done.receipt).toEqual({
    deviceMs: 90,
    rowSteps: 18,
    meanBatchRows: 2,
    maxBatchRows: 2,
    promptCached: true,
    devices: ['paint:0'],
  })
  expect(done.timings).toEqual({
    queuedMs: done.startedAt.getTime() - done.createdAt.getTime(),
    encodeMs: 1.25,
    denoiseMs: 2.5,
    decodeMs: 3.75,
    totalMs: done.finishedAt.getTime() - done.createdAt.getTime(),
  })
  expect(pool.requests.map(({ id }) => id)).toEqual([0, 1, 2].map((index) => `${generation.id}/${index}`))
})

test('what is not there is undefined, and waiting for it is an error', async () => {
  await start()
  expect(await service.get('gen_none')).toBeUndefined()
  expect(await service.image('img_none')).toBeUndefined()
  expect(await service.cancel('gen_none')).toBeUndefined()
  await expect(service.settled('gen_none')).rejects.toThrow('there is no generation gen_none')
})

test('a finished generation is answered at once; an aborted wait leaves the generation alone', async () => {
  const { passed, open } = gate()
  await start({ before: () => passed })
  const id = await create()
  const leaving = new AbortController()
  const waiting = service.settled(id, { signal: leaving.signal })
  leaving.abort(new Error('the client left'))
  await expect(waiting).rejects.toThrow('the client left')
  await expect(service.settled(id, { signal: AbortSignal.abort(new Error('gone before')) })).rejects.toThrow(
    'gone before',
  )
  open()
  expect((await service.settled(id)).state).toBe('succeeded')
  expect((await service.settled(id)).state).toBe('succeeded')
})

test('generations are taken in the order of their arrival, no more than the window at a time', async () => {
  const { passed, open } = gate()
  await start({ before: () => passed, images: 2 })
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push(await create({ seed: i }))
  await expect.poll(() => service.count()).toEqual({ queued: 3, running: 2 })
  open()
  await Promise.all(ids.map(succeeded))
  expect(pool.requests.map(({ seed }) => seed).slice(0, 2)).toEqual([0, 1])
  expect(pool.requests).toHaveLength(5)
})

describe('cancel', () => {
  test('ends a running generation between two steps, and its pictures are not kept', async () => {
    await start({ stepMs: 5 })
    const before = files().length
    const id = await create({ steps: 100_000, count: 2 })
    await expect.poll(() => pool.requests.length).toBe(2)
    expect(await service.cancel(id)).toMatchObject({ id, state: 'cancelled', finishedAt: expect.any(Date) })
    expect((await service.settled(id)).state).toBe('cancelled')
    await expect.poll(() => pool.aborted.toSorted()).toEqual([`${id}/0`, `${id}/1`])
    expect(files()).toHaveLength(before)
  })

  test('ends a waiting generation before it begins', async () => {
    const { passed, open } = gate()
    await start({ before: () => passed, images: 1 })
    const [first, second] = [await create(), await create()]
    expect((await service.cancel(second))?.state).toBe('cancelled')
    open()
    await succeeded(first)
    expect((await service.settled(second)).state).toBe('cancelled')
    expect(pool.requests.map(({ id }) => id)).toEqual([`${first}/0`])
  })

  test('leaves what is final as it is', async () => {
    await start()
    const id = await create()
    await succeeded(id)
    expect((await service.cancel(id))?.state).toBe('succeeded')
  })

  test('wakes who waits', async () => {
    await start({ stepMs: 5 })
    const id = await create({ steps: 100_000 })
    const waiting = service.settled(id)
    await service.cancel(id)
    expect((await waiting).state).toBe('cancelled')
  })
})

describe('failure', () => {
  test.each([
    [
      'an engine error keeps its code',
      new EngineError('device_failed', 'the device died 3 times'),
      { code: 'device_failed', message: 'the device died 3 times' },
    ],
    [
      'what nobody foresaw is not told to the caller',
      new TypeError('secret detail'),
      { code: 'generation_failed', message: 'The picture could not be made.' },
    ],
  ])('%s', async (_, error, expected) => {
    await start({
      before: () => {
        throw error
      },
    })
    expect(await service.settled(await create())).toMatchObject({
      state: 'failed',
      error: expected,
      finishedAt: expect.any(Date),
    })
  })

  test('of one picture ends its siblings, and none of them is kept', async () => {
    await start({
      stepMs: 5,
      before: ({ seedIndex }) => {
        if (seedIndex === 1) throw new EngineError('generation_failed', 'not this one')
      },
    })
    const before = files().length
    const id = await create({ count: 3, steps: 100_000 })
    expect(await service.settled(id)).toMatchObject({ state: 'failed', error: { message: 'not this one' } })
    expect(pool.aborted.toSorted()).toEqual([`${id}/0`, `${id}/2`])
    expect(files()).toHaveLength(before)
  })

  test('of the disk is told as such', async () => {
    const { blobs } = storage
    const full: Storage = {
      ...storage,
      blobs: {
        open: (key, range) => blobs.open(key, range),
        delete: (key) => blobs.delete(key),
        list: () => blobs.list(),
        put: () => Promise.reject(new Error('ENOSPC')),
        link: (key, link) => blobs.link(key, link),
        removeUnfinished: (before) => blobs.removeUnfinished(before),
        close: () => blobs.close(),
      },
    }
    pool = paintPool()
    service = owned(await startGenerationService({ storage: full, pool, log, maxWaitMs: 1e9 }))
    expect(await service.settled(await create())).toMatchObject({
      state: 'failed',
      error: { code: 'storage_failed' },
    })
  })
})

describe('a request is refused', () => {
  test('when the expected wait is beyond the limit, until enough of it is done', async () => {
    const { passed, open } = gate()
    await start({ before: () => passed, images: 1, maxWaitMs: 2000, stepCostMs: 1000, devices: 2 })
    const ids: string[] = []
    for (let i = 0; i < 3; i++) ids.push(await create({ steps: 2, seed: i }))
    await expect.poll(() => service.count()).toEqual({ queued: 2, running: 1 })
    // 6 s of work over two devices is a wait of 3 s, 1 s beyond the limit
    await expect(create()).rejects.toMatchObject({ code: 'queue_full', retryAfterSeconds: 1 })
    expect(await service.count()).toEqual({ queued: 2, running: 1 })
    expect((await service.metrics()).totals.refused).toBe(1)
    open()
    await Promise.all(ids.map(succeeded))
    await succeeded(await create())
  })

  test('with high priority only beyond twice the limit', async () => {
    const { passed, open } = gate()
    await start({ before: () => passed, images: 1, maxWaitMs: 1000, stepCostMs: 1000 })
    const urgent = () => service.create(someParameters({ steps: 1 }), { requestId: 'r', priority: 'high' })
    const ids = [await create({ steps: 2 })]
    await expect(create()).rejects.toMatchObject({ code: 'queue_full' })
    ids.push((await urgent()).generation.id)
    await expect(urgent()).rejects.toMatchObject({ code: 'queue_full', retryAfterSeconds: 1 })
    open()
    await Promise.all(ids.map(succeeded))
  })

  test('when its model is not served', async () => {
    await start()
    await expect(create({ model: 'other' })).rejects.toMatchObject({
      code: 'unknown_model',
      parameter: 'model',
    })
  })

  test.each([
    ['prompt', { prompt: 'a\0b' }],
    ['prompt', { prompt: 'half \ud83d' }],
    ['negative_prompt', { negativePrompt: '\0' }],
  ])('when the database cannot hold its %s', async (parameter, changes) => {
    await start()
    await expect(create(changes)).rejects.toMatchObject({ code: 'invalid_text', parameter })
  })
})

describe('an idempotency key', () => {
  const body = { prompt: 'p', n: 1 }
  const post = (idempotencyKey: string, idempotencyBody: unknown, seed = 1) =>
    service.create(someParameters({ seed }), { requestId: 'r', idempotencyKey, idempotencyBody })

  test('with the same body gives the earlier generation, whatever was drawn since', async () => {
    await start()
    const key = randomUUID()
    const first = await post(key, body, 1)
    const second = await post(key, { n: 1, prompt: 'p' }, 2)
    expect(second).toMatchObject({
      replayed: true,
      generation: { id: first.generation.id, parameters: { seed: 1 } },
    })
    await succeeded(first.generation.id)
    expect(await post(key, body, 3)).toMatchObject({ replayed: true, generation: { state: 'succeeded' } })
  })

  test('with another body is a conflict', async () => {
    await start()
    const key = randomUUID()
    await post(key, body)
    await expect(post(key, { ...body, n: 2 })).rejects.toMatchObject({ code: 'idempotency_conflict' })
  })

  test('of 200 concurrent twins makes one generation', async () => {
    await start()
    const key = randomUUID()
    const before = await storage.database.prisma.generation.count()
    const twins = await Promise.all(Array.from({ length: 200 }, (_, seed) => post(key, body, seed)))
    expect(new Set(twins.map(({ generation }) => generation.id)).size).toBe(1)
    expect(twins.filter(({ replayed }) => !replayed)).toHaveLength(1)
    expect(await storage.database.prisma.generation.count()).toBe(before + 1)
  })

  test('is forgotten after 24 hours', async () => {
    await start()
    const key = randomUUID()
    const first = await post(key, body)
    const age = (ms: number) =>
      storage.database.prisma.idempotencyKey.update({
        where: { project_key: { project: 'default', key } },
        data: { createdAt: new Date(Date.now() - ms) },
      })
    const dayMs = 24 * 60 * 60 * 1000
    await age(dayMs - 60_000)
    expect((await post(key, body)).replayed).toBe(true)
    await age(dayMs + 1000)
    const second = await post(key, { other: true })
    expect(second.replayed).toBe(false)
    expect(second.generation.id).not.toBe(first.generation.id)
  })

  test('is not used up by a request that was refused', async () => {
    const { passed, open } = gate()
    await start({ before: () => passed, images: 1, maxWaitMs: 10, stepCostMs: 10 })
    const key = randomUUID()
    const [running, waiting] = [await create({ steps: 1 }), await create({ steps: 1 })]
    await expect(post(key, body)).rejects.toMatchObject({ code: 'queue_full' })
    open()
    await Promise.all([running, waiting].map(succeeded))
    expect((await post(key, body)).replayed).toBe(false)
  })
})

describe('a stop', () => {
  test('cancels nothing: what is unfinished waits again and the next start finishes it', async () => {
    await start({ stepMs: 5, images: 4 })
    const ids: string[] = []
    for (let i = 0; i < 4; i++) ids.push(await create({ steps: 100_000, count: 2 }))
    await expect.poll(() => pool.requests.length).toBe(4)
    await service.close()
    expect(await service.count()).toEqual({ queued: 4, running: 0 })
    await storage.database.prisma.generation.updateMany({ where: { id: { in: ids } }, data: { steps: 1 } })

    await start()
    const done = await Promise.all(ids.map(succeeded))
    expect(done.map(({ attempt }) => attempt)).toEqual([2, 2, 1, 1])
    expect(pool.requests.map(({ id }) => id.slice(0, id.indexOf('/'))).sort()).toEqual(
      ids.flatMap((id) => [id, id]).sort(),
    )
  })

  test('that cannot even hand back leaves the row to the next start, and fails nothing', async () => {
    await start({ stepMs: 5 })
    const id = await create({ steps: 100_000 })
    await expect.poll(() => service.count()).toEqual({ queued: 0, running: 1 })
    const handBack = vi
      .spyOn(GenerationLeases.prototype, 'handBack')
      .mockRejectedValueOnce(new Error('the disk is gone'))
    await service.close()
    expect(handBack).toHaveBeenCalledOnce()
    expect(await service.count()).toEqual({ queued: 0, running: 1 })
    await storage.database.prisma.generation.update({ where: { id }, data: { steps: 1 } })

    await forgetHolders()
    await start()
    expect(await succeeded(id)).toMatchObject({ attempt: 2 })
  })

  test('by a process that could not say so is made good: running rows are taken up, whatever the queue remembers', async () => {
    const { passed, open } = gate()
    await start({ before: () => passed, images: 1 })
    const id = await create()
    await expect.poll(() => service.count()).toEqual({ queued: 0, running: 1 })
    const dead = service
    const deadPool = pool

    await forgetHolders()
    await start()
    expect(await succeeded(id)).toMatchObject({ attempt: 2 })
    const [image] = (await succeeded(id)).images
    // the first holder ends late: the row is not its own any more, and its file goes
    open()
    await dead.close()
    expect(deadPool.requests).toHaveLength(1)
    expect((await succeeded(id)).images).toEqual([image])
    expect(files().filter((name) => image?.blobKey.endsWith(name))).toHaveLength(1)
  })
})

test('a sweep removes files that no row tells of, and only those', async () => {
  await start()
  const [image] = (await succeeded(await create())).images
  const orphan = await storage.blobs.put(Buffer.from('nobody knows'), { extension: 'png', owner: 'gen_0-1' })
  await service.close()
  await start()
  expect(await service.swept).toBe(1)
  await expect(service.openBlob(orphan)).rejects.toMatchObject({ code: 'blob_missing' })
  expect(await buffer(await service.openBlob(image?.blobKey ?? ''))).toHaveLength(image?.sizeBytes ?? 0)
  const known = await storage.database.prisma.image.count()
  expect(files()).toHaveLength(known)
})
