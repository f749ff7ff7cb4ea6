/**
 * Blobs as files. One is written under a temporary name, flushed, and renamed. Several processes may have the directory open.
 */
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import {
  checkBlobKey,
  isBlobKey,
  newBlobKey,
  ownerOf,
  type BlobKind,
  type BlobStore,
  type ByteRange,
  type StoredBlob,
} from './blobs.ts'
import { failedWith, StorageError } from './errors.ts'

export class BlobDirectory implements BlobStore {
  readonly #root: string
  readonly #unfinished: string

  private constructor(root: string) {
    this.#root = root
    this.#unfinished = join(root, 'unfinished')
  }

  static async open(root: string): Promise<BlobDirectory> {
    const directory = new BlobDirectory(root)
    await mkdir(directory.#unfinished, { recursive: true, mode: 0o700 })
    return directory
  }

  async put(bytes: Uint8Array, kind: BlobKind): Promise<string> {
    const key = newBlobKey(kind)
    const path = this.#path(key)
    const unfinished = join(this.#unfinished, basename(path))
    let created: string | undefined
    try {
      await writeFlushed(unfinished, bytes)
      created = await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await rename(unfinished, path)
    } catch (error) {
      // A full disk must not be filled further by what did not fit.
      await rm(unfinished, { force: true })
      throw error
    }
    await syncFolder(dirname(path))
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

  async *list(): AsyncIterable<StoredBlob> {
    for (const shard of await readdir(this.#root)) {
      if (!/^[0-9a-f]{2}$/.test(shard)) continue
      for (const name of await readdir(join(this.#root, shard))) {
        const key = `${shard}/${name}`
        const storedAt = isBlobKey(key) ? await modifiedAt(this.#path(key)) : undefined
        if (storedAt) yield { key, owner: ownerOf(key), storedAt }
      }
    }
  }

  /** Nobody but the service reads its folder. */
  async link(): Promise<undefined> {
    return undefined
  }

  async removeUnfinished(before: Date): Promise<void> {
    for (const name of await readdir(this.#unfinished)) {
      const path = join(this.#unfinished, name)
      const writtenAt = await modifiedAt(path)
      if (writtenAt && writtenAt < before) await rm(path, { force: true })
    }
  }

  close(): void {
    // No file stays open beyond its stream.
  }

  #path(key: string): string {
    return join(this.#root, checkBlobKey(key))
  }
}

/** Undefined for a file that went meanwhile. */
async function modifiedAt(path: string): Promise<Date | undefined> {
  try {
    return (await stat(path)).mtime
  } catch (error) {
    if (failedWith(error, 'ENOENT')) return undefined
    throw error
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
