import { inspect } from 'node:util'
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
