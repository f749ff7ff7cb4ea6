import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { migrate } from '../../src/storage/migrations.ts'
import { temporaryFolder } from './folders.ts'

let database: PGlite
let schema = 0
beforeAll(async () => {
  database = await PGlite.create()
})
afterAll(() => database.close())
beforeEach(async () => {
  schema += 1
  await database.exec(`CREATE SCHEMA test_${schema}; SET search_path TO test_${schema}`)
})

function migrationsOf(scripts: Record<string, string>): string {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'migration_lock.toml'), 'provider = "postgresql"\n')
  for (const [name, script] of Object.entries(scripts)) {
    mkdirSync(join(folder, name))
    writeFileSync(join(folder, name, 'migration.sql'), script)
  }
  return folder
}

const book = async () =>
  (await database.query('SELECT * FROM _prisma_migrations ORDER BY migration_name')).rows

test('migrations apply in the order of their names, once, and the book is as Prisma keeps it', async () => {
  const second = "ALTER TABLE things ADD COLUMN name TEXT; INSERT INTO things (name) VALUES ('one');"
  const folder = migrationsOf({
    '20260102_second': second,
    '20260101_first': 'CREATE TABLE things (id SERIAL)',
  })
  expect(await migrate(database, folder)).toEqual({
    applied: ['20260101_first', '20260102_second'],
    unknown: [],
  })
  expect(await migrate(database, folder)).toEqual({ applied: [], unknown: [] })
  expect((await database.query('SELECT * FROM things')).rows).toEqual([{ id: 1, name: 'one' }])
  expect(await book()).toEqual([
    expect.objectContaining({
      migration_name: '20260101_first',
      applied_steps_count: 1,
      rolled_back_at: null,
      logs: null,
    }),
    {
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      migration_name: '20260102_second',
      checksum: createHash('sha256').update(second).digest('hex'),
      started_at: expect.any(Date),
      finished_at: expect.any(Date),
      applied_steps_count: 1,
      rolled_back_at: null,
      logs: null,
    },
  ])
})

test('an applied migration that was edited is refused by name', async () => {
  await migrate(database, migrationsOf({ a: 'CREATE TABLE a ()' }))
  const edited = migrationsOf({ a: 'CREATE TABLE a (id INT)', b: 'CREATE TABLE b ()' })
  await expect(migrate(database, edited)).rejects.toMatchObject({
    code: 'migration_changed',
    message: expect.stringContaining('migration a was changed'),
  })
  expect(await book()).toHaveLength(1)
})

test('a migration that fails leaves nothing of itself, and applies once it is mended', async () => {
  const broken = migrationsOf({ a: 'CREATE TABLE a ()', b: 'CREATE TABLE b (); SELECT no_such_function();' })
  await expect(migrate(database, broken)).rejects.toMatchObject({
    code: 'migration_failed',
    message: expect.stringContaining('no_such_function'),
  })
  const { rows } = await database.query(`SELECT to_regclass('test_${schema}.b') AS b`)
  expect(rows).toEqual([{ b: null }])
  writeFileSync(join(broken, 'b', 'migration.sql'), 'CREATE TABLE b ()')
  expect(await migrate(database, broken)).toEqual({ applied: ['b'], unknown: [] })
})

test('migrations of a newer program are reported and left alone', async () => {
  const newer = migrationsOf({ a: 'CREATE TABLE a ()', b: 'CREATE TABLE b ()' })
  await migrate(database, newer)
  const older = temporaryFolder()
  cpSync(join(newer, 'a'), join(older, 'a'), { recursive: true })
  expect(await migrate(database, older)).toEqual({ applied: [], unknown: ['b'] })
})

test('a migration that another tool began and did not finish is refused', async () => {
  const folder = migrationsOf({ a: 'CREATE TABLE a ()' })
  await migrate(database, folder)
  await database.exec('UPDATE _prisma_migrations SET finished_at = NULL')
  await expect(migrate(database, folder)).rejects.toMatchObject({
    code: 'migration_failed',
    message: expect.stringContaining('never finished'),
  })
})

test('generations of a data folder from before datasets and fine-tuning are as they were', async () => {
  const all = fileURLToPath(new URL('../../prisma/migrations', import.meta.url))
  const before = temporaryFolder()
  const old = ['20260101000000_generations', '20260201000000_native_api']
  for (const name of ['migration_lock.toml', ...old])
    cpSync(join(all, name), join(before, name), { recursive: true })
  await migrate(database, before)
  await database.exec(`INSERT INTO "Generation" ("id", "requestId", "model", "prompt", "negativePrompt", "width", "height",
    "count", "seed", "seedIndex", "steps", "guidanceScale", "scheduler", "cleanCaption", "format", "compression", "expectedMs",
    "rowTokens", "turnAt") VALUES ('gen_1', 'req', 'tiny', 'a cat', '', 64, 64, 1, 7, 0, 4, 4.5, 'dpm', false, 'png', 6, 1, 1, now())`)
  const generations = async () => (await database.query('SELECT * FROM "Generation"')).rows
  const rows = await generations()
  const later = readdirSync(all).filter((name) => /^\d+_/.test(name) && !old.includes(name))
  expect((await migrate(database, all)).applied).toEqual(later.toSorted())
  // Later ones may have given it columns.
  expect(await generations()).toEqual(rows.map((row) => expect.objectContaining(row as object) as unknown))
  expect(rows).toHaveLength(1)
})
