/** The files of a folder and its subfolders, in the order of their names. */
import { constants } from 'node:fs'
import { lstat, open, readdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Entry, FileEntry, RefusedEntry } from './entries.ts'
import { reasonOf } from './errors.ts'

/**
 * Links are refused, wherever they lead: what they mean can change between two looks.
 * @param root a folder's real path
 * @throws what the file system says of a folder that cannot be read
 */
export async function* folderEntries(root: string, below = ''): AsyncGenerator<Entry> {
  const found = await readdir(join(root, below), { withFileTypes: true })
  for (const each of found.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const name = below === '' ? each.name : `${below}/${each.name}`
    if (each.isDirectory()) yield* folderEntries(root, name)
    else if (each.isFile()) yield await fileEntry(name, join(root, name))
    else {
      const got = each.isSymbolicLink() ? 'a symbolic link' : 'something else'
      yield { kind: 'refused', name, code: 'not_a_file', message: `expected a file, got ${got}` }
    }
  }
}

/** It may be gone since, or have a name that is not UTF-8, by which it cannot be found. */
async function fileEntry(name: string, file: string): Promise<FileEntry | RefusedEntry> {
  try {
    const { size: sizeBytes } = await lstat(file)
    return { kind: 'file', name, sizeBytes, file, open: () => openPlainFile(file) }
  } catch (error) {
    const message = `expected a file that can be read, got none (${reasonOf(error)})`
    return { kind: 'refused', name, code: 'damaged_file', message }
  }
}

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants

/** Neither through a link nor from a pipe that has taken the place of the file, or of a folder above it, since. Windows has no such flags. */
async function openPlainFile(file: string): Promise<Readable> {
  const handle = await open(file, O_RDONLY | (O_NOFOLLOW ?? 0) | (O_NONBLOCK ?? 0))
  try {
    const [opened, named] = [await handle.stat(), await lstat(file)]
    const isTheSame = opened.isFile() && opened.ino === named.ino && opened.dev === named.dev
    if (!isTheSame || (await realpath(file)) !== file) throw new Error('another thing has taken its place')
    return handle.createReadStream()
  } catch (error) {
    await handle.close()
    throw error
  }
}
