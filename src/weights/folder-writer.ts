/** Writes a folder whole or not at all. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, statfs, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { WeightsError } from './errors.ts'
import { explained } from './files.ts'
import { tryLock } from './lock.ts'
import { temporarySuffix } from './safetensors-writer.ts'
import { mebibytes } from './units.ts'

/**
 * Fills a folder beside `path` and renames it. On failure it is removed; what a killed process left of the same path is removed
 * by the next one that writes there.
 * @param path nothing, or an empty folder; the folder around it is made
 * @param fill is given an empty folder that is there
 * @throws {WeightsError} when another process is writing the same folder; and what `fill` throws
 */
export async function writeFolder<T>(path: string, fill: (temporary: string) => Promise<T>): Promise<T> {
  const folder = resolve(path)
  await explained(folder, 'a path to write to', mkdir(dirname(folder), { recursive: true }))
  const lockFile = `${folder}.lock`
  const take = () => explained(folder, 'a path with room for a lock file beside it', tryLock(lockFile))
  // The first attempt may have cleared away the lock of a process that is gone.
  const lock = (await take()) ?? (await take())
  if (!lock) {
    const expected = 'a folder that no other process is writing'
    throw new WeightsError({
      violation: 'unwritable',
      file: folder,
      expected,
      got: `one locked by ${lockFile}`,
    })
  }
  const temporary = `${folder}.${randomBytes(8).toString('hex')}${temporarySuffix}`
  try {
    await removeLeftovers(folder)
    await mkdir(temporary)
    const result = await fill(temporary)
    await rename(temporary, folder)
    return result
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw error
  } finally {
    await lock.release()
  }
}

/** Temporaries of this folder, whose writer must be dead since we hold its lock. */
async function removeLeftovers(folder: string): Promise<void> {
  const start = `${basename(folder)}.`
  for (const name of await readdir(dirname(folder))) {
    if (!name.startsWith(start) || !name.endsWith(temporarySuffix)) continue
    if (/^[0-9a-f]{16}$/.test(name.slice(start.length, -temporarySuffix.length)))
      await rm(join(dirname(folder), name), { recursive: true })
  }
}

/** @throws {WeightsError} when the disk that `path` will be on has less space */
export async function refuseFullDisk(path: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await explained(path, 'a disk', statfs(dirname(path)))
  const freeBytes = bavail * bsize
  if (neededBytes <= freeBytes) return
  const expected = `a disk with ${mebibytes(neededBytes)} free`
  throw new WeightsError({
    violation: 'unwritable',
    file: path,
    expected,
    got: `one with ${mebibytes(freeBytes)}`,
  })
}

export const writeJson = (file: string, value: unknown): Promise<void> =>
  writeFile(file, `${JSON.stringify(value, null, 2)}\n`)
