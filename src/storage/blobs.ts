/**
 * Where picture bytes live: a small interface, and the directory that implements it.
 *
 * A key is made before the bytes are known and says nothing of them, so that two equal pictures are two blobs and
 * deleting one never takes the other. A blob is whole or not there: it is written under a temporary name, flushed,
 * and renamed.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { failedWith, StorageError } from './errors.ts'

export interface ByteRange {
  /** First byte. */
  readonly start: number
  /** Last byte, inclusive, as in HTTP. */
  readonly end: number
}

export interface BlobStore {
  /** Stores the bytes for good and returns their new key; `extension` is the key's ending, for example `png`. */
  put(bytes: Uint8Array, extension: string): Promise<string>
  /** @throws {StorageError} `blob_missing` */
  open(key: string, range?: ByteRange): Promise<Readable>
  /** Does nothing when there is no such blob. */
  delete(key: string): Promise<void>
  /** The keys of all blobs. */
  list(): AsyncIterable<string>
}

const keyPattern = /^([0-9a-f]{2})\/[0-9a-f]{32}\.[a-z0-9]{1,8}$/

export class BlobDirectory implements BlobStore {
  readonly #root: string
  readonly #unfinished: string

  private constructor(root: string) {
    this.#root = root
    this.#unfinished = join(root, 'unfinished')
  }

  /** Opens the directory and removes what writes that a kill cut short have left. Only one process may have it open. */
  static async open(root: string): Promise<BlobDirectory> {
    const directory = new BlobDirectory(root)
    await rm(directory.#unfinished, { recursive: true, force: true })
    await mkdir(directory.#unfinished, { recursive: true, mode: 0o700 })
    return directory
  }

  async put(bytes: Uint8Array, extension: string): Promise<string> {
    const name = randomBytes(16).toString('hex')
    const shard = name.slice(0, 2)
    const key = `${shard}/${name}.${extension}`
    const unfinished = join(this.#unfinished, name)
    let created: string | undefined
    try {
      await writeFlushed(unfinished, bytes)
      created = await mkdir(join(this.#root, shard), { recursive: true, mode: 0o700 })
      await rename(unfinished, this.#path(key))
    } catch (error) {
      // A full disk must not be filled further by what did not fit.
      await rm(unfinished, { force: true })
      throw error
    }
    await syncFolder(join(this.#root, shard))
    if (created !== undefined) await syncFolder(this.#root)
    return key
  }

  async open(key: string, range?: ByteRange): Promise<Readable> {
    try {
      const file = await open(this.#path(key), 'r')
      return file.createReadStream(range ?? {})
    } catch (error) {
      if (!failedWith(error, 'ENOENT')) throw error
      throw new StorageError('blob_missing', `there is no blob ${key}`, { cause: error })
    }
  }

  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true })
  }

  async *list(): AsyncIterable<string> {
    for (const shard of await readdir(this.#root)) {
      if (!/^[0-9a-f]{2}$/.test(shard)) continue
      for (const name of await readdir(join(this.#root, shard))) {
        const key = `${shard}/${name}`
        if (keyPattern.test(key)) yield key
      }
    }
  }

  /** Keys come back from rows and links: nothing but a key ever becomes a path. */
  #path(key: string): string {
    if (!keyPattern.test(key))
      throw new StorageError('blob_missing', `${JSON.stringify(key)} is not a blob key`)
    return join(this.#root, key)
  }
}

async function writeFlushed(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes a rename in this folder last. Windows neither needs it nor lets a folder be opened. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
