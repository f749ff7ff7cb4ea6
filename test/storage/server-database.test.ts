import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { inspect } from 'node:util'
import pg from 'pg'
import { expect, test } from 'vitest'
import { notify, type Database } from '../../src/storage/database.ts'
import { isOutage } from '../../src/storage/outage.ts'
import { openServerDatabase } from '../../src/storage/server-database.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { serverDatabase } from '../postgres/database.ts'
import { startPostgres } from '../postgres/server.ts'
import { temporaryFolder } from './folders.ts'

const patience = { timeout: 60_000, interval: 50 }

test('many processes may start at once on an empty database: each migration is applied once', async () => {
  const databaseUrl = await serverDatabase()
  const onError = (error: Error) => {
    throw error
  }
  const opening = Array.from({ length: 4 }, () =>
    openStorage({ dataDir: temporaryFolder(), databaseUrl, onError }),
  )
  const opened = await Promise.all(opening)
  const applied = opened.flatMap(({ database }) => database.migrations.applied)
  expect(applied).toContain('20260715000000_workers')
  expect(new Set(applied).size).toBe(applied.length)
  await Promise.all(opened.map((storage) => storage.close()))
})

test('a server out of reach is one error that names it, and not the password', async () => {
  const url = 'postgres://someone:a-secret@127.0.0.1:1/atelier'
  const error = await openServerDatabase({ url, onError: () => undefined }).then(
    () => undefined,
    (error: unknown) => error as Error,
  )
  expect(error).toMatchObject({
    name: 'StorageError',
    code: 'database_unreachable',
    message: expect.stringMatching(/^ATELIER_DATABASE_URL: expected .* got none at 127.0.0.1:1\/atelier /),
  })
  expect(inspect(error)).not.toContain('a-secret')
})

test('a server that is too old is refused by its version', async () => {
  await using server = await serverOfVersion('14.11', 140_011)
  const url = `postgres://someone:a-secret@127.0.0.1:${server.port}/atelier`
  await expect(openServerDatabase({ url, onError: () => undefined })).rejects.toMatchObject({
    name: 'StorageError',
    code: 'database_too_old',
    message: `ATELIER_DATABASE_URL: expected PostgreSQL 15 or later, got 14.11 at 127.0.0.1:${server.port}/atelier`,
  })
})

/** Says so to whatever it is asked, in the words of PostgreSQL's protocol. */
async function serverOfVersion(version: string, number: number) {
  const message = (type: string, body: Buffer) => {
    const head = Buffer.alloc(5)
    head.write(type)
    head.writeInt32BE(body.length + 4, 1)
    return Buffer.concat([head, body])
  }
  const int16 = (value: number) => Buffer.from([value >> 8, value & 255])
  const field = (name: string) =>
    Buffer.concat([Buffer.from(`${name}\0`), Buffer.alloc(6), Buffer.from([0, 0, 0, 25]), Buffer.alloc(8)])
  const value = (text: string) => Buffer.concat([Buffer.from([0, 0, 0, text.length]), Buffer.from(text)])
  const ready = message('Z', Buffer.from('I'))
  const answer = Buffer.concat([
    message('T', Buffer.concat([int16(2), field('version'), field('number')])),
    message('D', Buffer.concat([int16(2), value(version), value(String(number))])),
    message('C', Buffer.from('SELECT 1\0')),
    ready,
  ])
  const server = createServer((socket) => {
    socket.once('data', () => {
      socket.write(Buffer.concat([message('R', Buffer.alloc(4)), ready]))
      socket.on('data', (asked) => asked.toString('latin1', 0, 1) === 'Q' && socket.write(answer))
    })
    socket.on('error', () => socket.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => void server.close(),
  }
}

test('a user who owns the database and nothing else is enough', async () => {
  const url = new URL(await serverDatabase())
  const [administrator, name] = [new pg.Client(url.href), url.pathname.slice(1)]
  await administrator.connect()
  await administrator.query(
    `CREATE ROLE ${name}_owner LOGIN PASSWORD 'plain' NOSUPERUSER NOCREATEDB NOCREATEROLE`,
  )
  await administrator.query(`ALTER DATABASE ${name} OWNER TO ${name}_owner`)
  await administrator.end()
  Object.assign(url, { username: `${name}_owner`, password: 'plain' })
  const errors: Error[] = []
  const storage = await openStorage({
    dataDir: temporaryFolder(),
    databaseUrl: url.href,
    kind: 'worker',
    onError: (error) => errors.push(error),
  })
  const [role] = await storage.database.prisma.$queryRaw<[{ rolsuper: boolean }]>`
    SELECT rolsuper FROM pg_roles WHERE rolname = current_user`
  expect(role).toEqual({ rolsuper: false })
  const { prisma } = storage.database
  await prisma.$transaction((transaction) =>
    storage.generationQueue.send(transaction, [{ id: randomUUID(), turnAt: new Date() }]),
  )
  const taken = await prisma.$transaction((transaction) => storage.generationQueue.fetch(transaction, 1))
  expect(taken).toHaveLength(1)
  await storage.close()
  expect(errors).toEqual([])
})

test('a wrong password is told of, and not told', async () => {
  const url = new URL(await serverDatabase())
  url.password = 'not-the-one'
  const opening = openServerDatabase({ url: url.href, onError: () => undefined })
  await expect(opening).rejects.toMatchObject({
    code: 'database_unreachable',
    message: expect.stringMatching(/^(?!.*not-the-one).*password authentication failed/),
  })
})

test('after the server was killed queries fail as outages, then work; listeners look for themselves, then hear again', async () => {
  const postgres = await startPostgres()
  let database: Database | undefined
  try {
    const errors: Error[] = []
    const url = await postgres.createDatabase()
    database = await openServerDatabase({ url, onError: (error) => errors.push(error) })
    const { prisma } = database
    const heard: string[] = []
    let missed = 0
    await database.listen(
      'test_channel',
      (payload) => heard.push(payload),
      () => (missed += 1),
    )
    const say = (text: string) =>
      prisma.$transaction((transaction) => notify(transaction, 'test_channel', text))
    await say('before')
    await expect.poll(() => heard, patience).toEqual(['before'])

    const inFlight = prisma.$queryRaw`SELECT pg_sleep(30)::text`.catch((error: unknown) => error)
    await postgres.kill()
    expect(isOutage(await inFlight)).toBe(true)
    for (const query of [() => prisma.generation.count(), () => say('lost')])
      expect(
        isOutage(
          await query().then(
            () => undefined,
            (error: unknown) => error,
          ),
        ),
      ).toBe(true)
    await postgres.start()
    await expect.poll(() => missed, patience).toBe(1)
    await expect.poll(() => prisma.generation.count().catch(() => -1), patience).toBe(0)
    await say('after')
    await expect.poll(() => heard, patience).toEqual(['before', 'after'])
    expect(errors.every((error) => isOutage(error) || /hung up/.test(error.message))).toBe(true)
  } finally {
    await database?.close()
    await postgres.stop()
  }
})
