/**
 * A lock file that keeps processes from doing the same long work twice. It saves work and protects nothing: two may hold it for
 * a moment when one takes over from another that only seemed dead, so what is done under it must be safe without it.
 */
import { randomUUID } from 'node:crypto'
import { readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { isSystemError } from './files.ts'

export interface Lock {
  release(): Promise<void>
}

const heartbeatMs = 1_000
/** A holder that has not touched its lock for so long is dead or stopped. */
const staleMs = 15_000

/** @returns the lock, or undefined while another holds it: ask again */
export async function tryLock(file: string): Promise<Lock | undefined> {
  const content = `${process.pid} ${randomUUID()} ${hostname()}`
  try {
    await writeFile(file, content, { flag: 'wx' })
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error
    if (await isAbandoned(file)) await rm(file, { force: true })
    return undefined
  }
  const heartbeat = setInterval(() => {
    const now = new Date()
    // It fails when another has taken the lock over; then there is nothing left to keep fresh.
    utimes(file, now, now).catch(() => clearInterval(heartbeat))
  }, heartbeatMs).unref()
  return {
    release: async () => {
      clearInterval(heartbeat)
      if ((await read(file)) === content) await rm(file, { force: true })
    },
  }
}

async function isAbandoned(file: string): Promise<boolean> {
  const [content, age] = await Promise.all([read(file), ageMs(file)])
  if (content === undefined || age === undefined) return false
  if (age > staleMs) return true
  // Empty while its holder has made the file and not yet written it.
  const [pid, , host] = content.split(' ')
  return host === hostname() && !isAlive(Number(pid))
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return !isSystemError(error, 'ESRCH')
  }
}

/** Undefined when the file is gone. */
async function read(file: string): Promise<string | undefined> {
  return unlessGone(readFile(file, 'utf8'))
}

async function ageMs(file: string): Promise<number | undefined> {
  const stats = await unlessGone(stat(file))
  return stats && Date.now() - stats.mtimeMs
}

async function unlessGone<T>(operation: Promise<T>): Promise<T | undefined> {
  try {
    return await operation
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
}
