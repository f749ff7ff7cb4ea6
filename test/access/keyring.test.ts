/** Who a key belongs to: told from memory for as long as it is true, and not much longer. */
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { hashOf, newKeyText } from '../../src/access/key-text.ts'
import { openKeyring, type Keyring } from '../../src/access/keyring.ts'
import { Keys, type NewKey } from '../../src/access/keys.ts'
import { defaultProject } from '../../src/access/project.ts'
import { openEmbeddedDatabase, type Database } from '../../src/storage/database.ts'
import { preparedFolder } from '../storage/prepared-folder.ts'

const log = pino({ level: 'silent' })
let database: Database
let keys: Keys
let keyring: Keyring
/** As on a replica that hears no announcements. */
let deaf: Keyring

beforeAll(async () => {
  database = await openEmbeddedDatabase(await preparedFolder())
  keys = new Keys(database)
  keyring = await openKeyring(database, keys, log)
  deaf = await openKeyring({ listen: async () => async () => undefined }, keys, log)
})
afterAll(async () => {
  await keyring.close()
  await database.close()
})

const create = (changes: Partial<NewKey> = {}) =>
  keys.create({ project: defaultProject, name: 'a test', scopes: ['read'], ...changes })

test('a service has keys from the first one on, and for ever', async () => {
  expect(await keyring.hasKeys()).toBe(false)
  const { key } = await create()
  await vi.waitFor(async () => expect(await keyring.hasKeys()).toBe(true))
  await keys.revoke(defaultProject, key.id)
  expect(await keyring.hasKeys()).toBe(true)
  await vi.waitFor(async () => expect(await deaf.hasKeys()).toBe(true), { timeout: 10_000, interval: 200 })
})

test('only a hash of a key is kept', async () => {
  const { key, text } = await create()
  const row = await database.prisma.apiKey.findUniqueOrThrow({ where: { id: key.id } })
  expect(row.sha256).toBe(hashOf(text))
  expect(JSON.stringify(row)).not.toContain(text.slice(key.prefix.length))
})

test('what is wrong with a key is told', async () => {
  const { text } = await create()
  expect(await keyring.judge(text)).toMatchObject({ kind: 'valid', key: { name: 'a test' } })
  expect(await keyring.judge('sk-1')).toEqual({ kind: 'invalid', fault: 'malformed' })
  expect(await keyring.judge(text.slice(0, -1))).toEqual({ kind: 'invalid', fault: 'mistyped' })
  expect(await keyring.judge(newKeyText())).toEqual({ kind: 'invalid', fault: 'unknown' })
})

test('a key ends when it expires, also while it is remembered', async () => {
  const { text } = await create({ expiresAt: new Date(Date.now() + 1000) })
  expect(await keyring.judge(text)).toMatchObject({ kind: 'valid' })
  await sleep(1100)
  expect(await keyring.judge(text)).toEqual({ kind: 'invalid', fault: 'expired' })
})

test('a revocation works at once where it is heard, and within five seconds where not', async () => {
  const { key, text } = await create()
  for (const one of [keyring, deaf]) expect(await one.judge(text)).toMatchObject({ kind: 'valid' })
  await keys.revoke(defaultProject, key.id)
  const revoked = { kind: 'invalid', fault: 'revoked' }
  await vi.waitFor(async () => expect(await keyring.judge(text)).toEqual(revoked), { timeout: 1000 })
  expect(await deaf.judge(text)).toMatchObject({ kind: 'valid' })
  await sleep(5_100)
  expect(await deaf.judge(text)).toEqual(revoked)
})

test('the use of a key is written once a minute', async () => {
  const { key, text } = await create()
  const lastUse = async () => (await keys.get(defaultProject, key.id)).lastUsedAt
  expect(await lastUse()).toBeUndefined()
  await keyring.judge(text)
  await vi.waitFor(async () => expect(await lastUse()).toBeInstanceOf(Date))
  const first = await lastUse()
  for (const one of [keyring, deaf]) await one.judge(text)
  await sleep(100)
  expect(await lastUse()).toEqual(first)
  const aMinuteAgo = new Date(Date.now() - 61_000)
  await database.prisma.apiKey.update({ where: { id: key.id }, data: { lastUsedAt: aMinuteAgo } })
  await keys.touch(key.id)
  expect((await lastUse())?.getTime()).toBeGreaterThan(aMinuteAgo.getTime())
})

test('those who ask at once ask the database once', async () => {
  const { text } = await create()
  const find = vi.spyOn(keys, 'findByHash')
  const verdicts = await Promise.all(Array.from({ length: 100 }, () => keyring.judge(text)))
  expect(verdicts.filter(({ kind }) => kind === 'valid')).toHaveLength(100)
  expect(find).toHaveBeenCalledTimes(1)
  find.mockRestore()
})
