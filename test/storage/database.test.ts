import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Prisma } from '../../src/storage/client/client.ts'
import { notify, openEmbeddedDatabase, type Database } from '../../src/storage/database.ts'
import { startChild, temporaryFolder } from './folders.ts'

const dataDir = temporaryFolder()
const holder = fileURLToPath(new URL('hold-database.ts', import.meta.url))
let database: Database

const row = (id: string) => ({
  project: 'default',
  id,
  requestId: 'req',
  model: 'tiny',
  prompt: 'p',
  negativePrompt: '',
  width: 64,
  height: 64,
  count: 1,
  seed: 1n,
  seedIndex: 0,
  steps: 20,
  guidanceScale: 4.5,
  scheduler: 'euler',
  cleanCaption: false,
  format: 'png',
  compression: 90,
  expectedMs: 1000,
  rowTokens: 256,
  turnAt: new Date('2026-03-01'),
})

beforeAll(async () => {
  // what a kill in the middle of the very first initdb leaves
  mkdirSync(join(dataDir, 'database.new', 'base'), { recursive: true })
  writeFileSync(join(dataDir, 'database.new', 'PG_VERSION'), '18')
  database = await openEmbeddedDatabase(dataDir)
})
afterAll(() => database.close())

test('a first start applies every migration, over the remains of an unfinished one', () => {
  expect(database.migrations.applied).toContain('20260101000000_generations')
  expect(database.migrations.unknown).toEqual([])
  expect(existsSync(join(dataDir, 'database.new'))).toBe(false)
})

test('the migrations make the columns of the Prisma schema, no more and no less', async () => {
  const columns = async (table: string) => {
    const rows = await database.prisma.$queryRaw<{ column_name: string }[]>`
      SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ${table}`
    return rows.map(({ column_name }) => column_name).sort()
  }
  expect(await columns('Generation')).toEqual(Object.values(Prisma.GenerationScalarFieldEnum).sort())
  expect(await columns('Image')).toEqual(Object.values(Prisma.ImageScalarFieldEnum).sort())
  expect(await columns('GenerationEvent')).toEqual(
    Object.values(Prisma.GenerationEventScalarFieldEnum).sort(),
  )
  expect(await columns('IdempotencyKey')).toEqual(Object.values(Prisma.IdempotencyKeyScalarFieldEnum).sort())
})

test('values come back as they were written', async () => {
  const written = {
    ...row('exact'),
    seed: 2n ** 53n - 1n,
    guidanceScale: 0.1 + 0.2,
    prompt: '灯台 🗼 e\u0301 "quoted" \\ \u0001 \uFFFF\n',
    createdAt: new Date('2026-02-28T23:59:59.987Z'),
  }
  await database.prisma.generation.create({ data: written })
  expect(await database.prisma.generation.findUniqueOrThrow({ where: { id: 'exact' } })).toMatchObject(
    written,
  )
})

describe('the database itself refuses rows that no state allows', () => {
  const create = (changes: Partial<Prisma.GenerationCreateInput>) =>
    database.prisma.generation.create({ data: { ...row('refused'), ...changes } })

  test.each([
    ['a final state without an end', { state: 'succeeded' }, 'Generation_finished_check'],
    ['an end in a state that is not final', { finishedAt: new Date() }, 'Generation_finished_check'],
    ['running without a start', { state: 'running', attempt: 1, claimed: true }, 'Generation_running_check'],
    ['failed without a reason', { state: 'failed', finishedAt: new Date() }, 'Generation_error_check'],
    ['a reason without failure', { errorCode: 'x', errorMessage: 'y' }, 'Generation_error_check'],
    [
      'running without a worker that holds it',
      { state: 'running', attempt: 1, startedAt: new Date() },
      'Generation_claimed_check',
    ],
    [
      'held by a worker after its end',
      { state: 'cancelled', finishedAt: new Date(), attempt: 1, claimed: true },
      'Generation_claimed_check',
    ],
    ['endless work', { expectedMs: Infinity }, 'Generation_work_check'],
    ['a negative seed', { seed: -1n }, 'Generation_seed_check'],
    ['a seed that a double cannot hold', { seed: 2n ** 53n }, 'Generation_seed_check'],
    ['an unknown format', { format: 'gif' }, 'Generation_format_check'],
  ] as const)('%s', async (_, changes, constraint) => {
    await expect(create(changes)).rejects.toThrow(constraint)
  })

  test('a picture without its generation', async () => {
    const image = {
      id: 'i',
      generationId: 'nobody',
      index: 0,
      seed: 1n,
      seedIndex: 0,
      width: 1,
      height: 1,
      bucketWidth: 1,
      bucketHeight: 1,
    }
    const rest = {
      format: 'png',
      sizeBytes: 1,
      sha256: 'a'.repeat(64),
      blobKey: 'k',
      promptTruncated: false,
      modelVersion: 'v',
    }
    const timings = { waitMs: 0, encodeMs: 0, denoiseMs: 0, decodeMs: 0, computeMs: 0 }
    await expect(database.prisma.image.create({ data: { ...image, ...rest, ...timings } })).rejects.toThrow(
      /foreign key/i,
    )
  })
})

test('a preview has a picture, and no other event has one', async () => {
  await database.prisma.generation.create({ data: row('events') })
  const event = { generationId: 'events', sequence: 1, data: {} }
  await expect(
    database.prisma.generationEvent.create({ data: { ...event, type: 'preview' } }),
  ).rejects.toThrow('GenerationEvent_blob_check')
  await expect(
    database.prisma.generationEvent.create({ data: { ...event, type: 'started', blobKey: 'k' } }),
  ).rejects.toThrow('GenerationEvent_blob_check')
  await database.prisma.generation.delete({ where: { id: 'events' } })
})

test.each([
  ['refuses', 0, 'Generation_size_check'],
  ['cannot read', 'three' as unknown as number, 'Expected Int, provided String'],
])('what the database %s is told without the values of the query', async (_, count, reason) => {
  const secret = 'a prompt that nobody else may read'
  const refused = database.prisma.generation.create({ data: { ...row('secret'), prompt: secret, count } })
  const error = await refused.then(
    () => undefined,
    (error: unknown) => error as Error,
  )
  const told = `${error?.message} ${error?.stack} ${JSON.stringify(error)} ${inspect(error)}`
  expect(told).toContain(reason)
  expect(told).not.toContain(secret)
})

test('a notification comes after its transaction commits, and never when it rolls back', async () => {
  const heard: string[] = []
  const { promise: last, resolve } = Promise.withResolvers<void>()
  const stop = await database.listen('test_channel', (payload) => {
    heard.push(payload)
    if (payload === 'last') resolve()
  })
  const rolledBack = database.prisma.$transaction(async (transaction) => {
    await notify(transaction, 'test_channel', 'never')
    throw new Error('roll back')
  })
  await expect(rolledBack).rejects.toThrow('roll back')
  await database.prisma.$transaction(async (transaction) => {
    await notify(transaction, 'test_channel', 'first')
    await transaction.generation.count()
    expect(heard).toEqual([])
  })
  await database.prisma.$transaction((transaction) => notify(transaction, 'test_channel', 'last'))
  await last
  expect(heard).toEqual(['first', 'last'])
  await stop()
})

test('an open database refuses a second opening by name, in this process and in another', async () => {
  const held = {
    code: 'database_held',
    message: expect.stringMatching(new RegExp(`in use by process ${process.pid} on .*ATELIER_DATA_DIR`)),
  }
  await expect(openEmbeddedDatabase(dataDir)).rejects.toMatchObject(held)
})

test('a killed holder leaves a database that the next process opens, with what was acknowledged', async () => {
  await database.prisma.generation.create({ data: row('kept') })
  await database.close()
  const child = startChild(holder, [dataDir])
  expect((await child.lines.next()).value).toBe('open')
  await expect(openEmbeddedDatabase(dataDir)).rejects.toMatchObject({
    code: 'database_held',
    message: expect.stringContaining(`process ${child.process.pid} on`),
  })
  await child.kill()
  expect(JSON.parse(readFileSync(join(dataDir, 'database.holder.json'), 'utf8'))).toMatchObject({
    pid: child.process.pid,
  })

  database = await openEmbeddedDatabase(dataDir)
  expect(database.migrations.applied).toEqual([])
  expect(await database.prisma.generation.count({ where: { id: 'kept' } })).toBe(1)
})

test('a folder that is no database is not overwritten but named', async () => {
  const other = temporaryFolder()
  mkdirSync(join(other, 'database'))
  writeFileSync(join(other, 'database', 'PG_VERSION'), 'not a version')
  await expect(openEmbeddedDatabase(other)).rejects.toMatchObject({
    code: 'database_damaged',
    message: expect.stringContaining(other),
  })
  expect(readFileSync(join(other, 'database', 'PG_VERSION'), 'utf8')).toBe('not a version')
})

test('a kill during the very first start leaves nothing that stops the second', async () => {
  const fresh = temporaryFolder()
  const child = startChild(holder, [fresh])
  // the database is being made; where in it the kill falls is up to chance
  const begun = () => ['database.new', 'database'].some((name) => existsSync(join(fresh, name)))
  await expect.poll(begun, { timeout: 30_000, interval: 5 }).toBe(true)
  await child.kill()
  const second = await openEmbeddedDatabase(fresh)
  expect(await second.prisma.generation.count()).toBe(0)
  await second.close()
})
