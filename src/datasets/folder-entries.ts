/** The files of a folder and its subfolders, in the order of their names. */
import { constants } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Entry } from './entries.ts'

/**
 * Links are refused, wherever they lead: what they mean can change between two looks.
 * @param root a folder's real path
 * @throws what the file system says of a folder that cannot be read
 */
export async function* folderEntries(root: string, below = ''): AsyncGenerator<Entry> {
  const found = await readdir(join(root, below), { withFileTypes: true })
  for (const each of found.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const name = below === '' ? each.name : `${below}/${each.name}`
    const file = join(root, name)
    if (each.isDirectory()) yield* folderEntries(root, name)
    else if (each.isFile()) {
      const { size: sizeBytes } = await stat(file)
      yield { kind: 'file', name, sizeBytes, file, open: async () => openPlainFile(file) }
    } else {
      const got = each.isSymbolicLink() ? 'a symbolic link' : 'something else'
      yield { kind: 'refused', name, code: 'not_a_file', message: `expected a file, got ${got}` }
    }
  }
}

/** Not through a link that has taken the file's place since; Windows has no such flag. */
async function openPlainFile(file: string): Promise<Readable> {
  const handle = await open(file, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  return handle.createReadStream()
}
