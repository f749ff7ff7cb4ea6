import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { expect, test } from 'vitest'
import { makeEmptyDatabase } from '../../src/storage/empty-database.ts'
import { temporaryFolder } from './folders.ts'

/** Fails where the table is there already. */
async function writeAndRead(folder: string): Promise<unknown> {
  const database = await PGlite.create({ dataDir: folder })
  await database.exec('CREATE TABLE mine (x int); INSERT INTO mine VALUES (7)')
  const { rows } = await database.query('SELECT x FROM mine')
  await database.close()
  return rows
}

test('each folder gets an empty database of its own, those at the same time too', async () => {
  const folder = temporaryFolder()
  const both = ['one', 'two'].map((name) => join(folder, name))
  await Promise.all(both.map((each) => makeEmptyDatabase(each)))
  for (const each of both) expect(await writeAndRead(each)).toEqual([{ x: 7 }])
})

test('where nothing can be kept it is made all the same', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'cache'), 'no folder')
  mkdirSync(join(folder, 'data'))
  await makeEmptyDatabase(join(folder, 'data', 'database'), join(folder, 'cache'))
  expect(await writeAndRead(join(folder, 'data', 'database'))).toEqual([{ x: 7 }])
})
