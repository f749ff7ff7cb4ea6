/**
 * Data folders whose database is there already. Making one takes PGlite many times longer than opening one, so it is made
 * once for each version of what it is made from, kept in node_modules/.cache, and copied.
 */
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openStorage } from '../../src/storage/storage.ts'
import { temporaryFolder } from './folders.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const cache = join(root, 'node_modules', '.cache', 'atelier-test-databases')

/** A new data folder with an empty, migrated database, removed after the file's tests. */
export async function preparedFolder(): Promise<string> {
  const folder = temporaryFolder()
  await prepare(folder)
  return folder
}

/** Puts an empty, migrated database into an existing data folder. */
export async function prepare(dataDir: string): Promise<void> {
  cpSync(join(await template(), 'database'), join(dataDir, 'database'), { recursive: true })
}

async function template(): Promise<string> {
  const folder = join(cache, ingredients())
  if (existsSync(folder)) return folder
  mkdirSync(cache, { recursive: true })
  const unfinished = mkdtempSync(join(cache, 'unfinished-'))
  const onError = (error: Error) => {
    throw error
  }
  const storage = await openStorage({ dataDir: unfinished, onError })
  await storage.close()
  try {
    renameSync(unfinished, folder)
  } catch (error) {
    rmSync(unfinished, { recursive: true })
    if (!existsSync(folder)) throw error // else another test file was first
  }
  return folder
}

function ingredients(): string {
  const migrations = join(root, 'prisma', 'migrations')
  const hash = createHash('sha256')
  for (const name of readdirSync(migrations, { recursive: true, encoding: 'utf8' }).sort()) {
    if (name.endsWith('.sql')) hash.update(name).update(readFileSync(join(migrations, name)))
  }
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  for (const name of ['@electric-sql/pglite', 'pg-boss']) hash.update(`${name} ${dependencies[name]}`)
  return hash.digest('hex').slice(0, 16)
}
