// Makes what a start would write beside the code, for images whose file system cannot be written to: the database's client, and
// the empty database that data folders begin with.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateDatabaseClient } from './setup.mjs'

generateDatabaseClient()
const { makeEmptyDatabase } = await import('../src/storage/empty-database.ts')
const folder = mkdtempSync(join(tmpdir(), 'atelier-image-'))
await makeEmptyDatabase(join(folder, 'database'))
rmSync(folder, { recursive: true })
