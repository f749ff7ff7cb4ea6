/** Where pictures lie: taken from where they come, and kept under the hash of their bytes, never under their own names. */
import { createHash } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { boundedBytes, type FileEntry } from './entries.ts'
import type { PictureFormat } from './pictures.ts'

export interface TakenPicture {
  readonly file: string
  readonly sha256: string
  readonly sizeBytes: number
}

export interface PictureFiles {
  /** Reads all bytes once. @throws {TooManyBytes | CannotKeep}, and what reading runs into */
  take(entry: FileEntry, maxBytes: number): Promise<TakenPicture>
  /** @returns where it stays */
  keep(taken: TakenPicture, format: PictureFormat): Promise<string>
  /** Undoes `take`. */
  drop(taken: TakenPicture): Promise<void>
}

/** What is kept cannot be written: a full disk and the like, of which no file of the dataset is guilty. */
export class CannotKeep extends Error {
  override readonly name = 'CannotKeep'
}

async function keeping<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    throw new CannotKeep("a dataset's files cannot be written", { cause })
  }
}

/** They stay where they are. */
export const inPlace: PictureFiles = {
  async take(entry, maxBytes) {
    const { name, file } = entry
    if (file === undefined) throw new Error(`${name} lies nowhere by itself`)
    const hash = createHash('sha256')
    let sizeBytes = 0
    for await (const chunk of boundedBytes(await entry.open(), maxBytes)) {
      hash.update(chunk)
      sizeBytes += chunk.length
    }
    return { file, sha256: hash.digest('hex'), sizeBytes }
  },
  keep: async ({ file }) => file,
  drop: async () => undefined,
}

/** How a file is called within its dataset's folder. */
export const pictureFile = (folder: string, sha256: string, format: PictureFormat): string =>
  join(folder, 'pictures', sha256.slice(0, 2), `${sha256}.${format}`)

/** Where an attempt has pictures that it has not checked. */
export const uncheckedFolder = (folder: string, attempt: number): string =>
  join(folder, `unchecked-${attempt}`)

/** They are copied into a dataset's folder. One that an earlier attempt has kept is the same: its name is that of its bytes. */
export function copiedInto(folder: string, attempt: number): PictureFiles {
  const unchecked = uncheckedFolder(folder, attempt)
  let count = 0
  return {
    async take(entry, maxBytes) {
      await keeping(mkdir(unchecked, { recursive: true, mode: 0o700 }))
      count += 1
      // No two have one name: the decoder remembers files by theirs.
      const file = join(unchecked, String(count))
      const hash = createHash('sha256')
      let sizeBytes = 0
      try {
        const handle = await keeping(open(file, 'wx', 0o600))
        try {
          for await (const chunk of boundedBytes(await entry.open(), maxBytes)) {
            hash.update(chunk)
            sizeBytes += chunk.length
            await keeping(handle.writeFile(chunk))
          }
        } finally {
          await keeping(handle.close())
        }
      } catch (error) {
        await rm(file, { force: true })
        throw error
      }
      return { file, sha256: hash.digest('hex'), sizeBytes }
    },
    async keep({ file, sha256 }, format) {
      const kept = pictureFile(folder, sha256, format)
      await mkdir(join(kept, '..'), { recursive: true, mode: 0o700 })
      await rename(file, kept)
      return kept
    },
    drop: ({ file }) => rm(file, { force: true }),
  }
}
