/**
 * One process a data folder: a lock that the operating system lets go of when its holder dies, however it dies.
 *
 * Node has no flock, but its built-in SQLite takes the operating system's file locks (fcntl, LockFileEx). An open
 * transaction on an empty SQLite file therefore is a lock that no crash leaves behind and no clock can misjudge.
 * Who holds it stands in a file beside it, for the message only: what decides is the lock.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { StorageError } from './errors.ts'

const sqliteBusy = 5

export interface FolderLock {
  release(): void
}

interface Holder {
  readonly pid: number
  readonly host: string
  readonly since: string
}

/** @throws {StorageError} `database_held`, naming the holder and what to do */
export function lockFolder(folder: string): FolderLock {
  makeFolder(folder)
  const holderPath = join(folder, 'database.holder.json')
  const lock = new DatabaseSync(join(folder, 'database.lock'), { timeout: 0 })
  try {
    lock.exec('BEGIN IMMEDIATE')
  } catch (error) {
    lock.close()
    if (!(error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy)) throw error
    throw new StorageError('database_held', describeHeld(folder, readHolder(holderPath)), { cause: error })
  }
  const holder: Holder = { pid: process.pid, host: hostname(), since: new Date().toISOString() }
  writeFileSync(holderPath, `${JSON.stringify(holder)}\n`)
  return {
    release() {
      rmSync(holderPath, { force: true })
      lock.close()
    },
  }
}

function makeFolder(folder: string): void {
  try {
    // Node's own recursion never ends where the file system answers ENOENT to a folder whose parent is there, as /proc does.
    const missing: string[] = []
    for (let path = folder; !existsSync(path); path = dirname(path)) missing.unshift(path)
    for (const path of missing) makeOne(path)
    if (!statSync(folder).isDirectory()) throw new Error('it is no folder')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError(
      'folder_unusable',
      `ATELIER_DATA_DIR: expected a folder that this user can write, got ${folder} (${reason})`,
      { cause: error },
    )
  }
}

function describeHeld(folder: string, holder: Holder | undefined): string {
  const who = holder
    ? `process ${holder.pid} on ${holder.host} (since ${holder.since})`
    : 'another process, which has not said its name yet'
  return `the database in ${folder} is in use by ${who}; stop that process, or set ATELIER_DATA_DIR to another folder`
}

/** The file may be missing or half written at the moment when another process takes the lock. */
function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

/** Another process may have made it just now. */
function makeOne(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
