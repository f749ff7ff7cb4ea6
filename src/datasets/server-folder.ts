/** Folders of the server that datasets may be made of: those below one root, by their real paths. */
import { realpath, stat } from 'node:fs/promises'
import { isAbsolute, relative, resolve, sep } from 'node:path'
import { DatasetError } from './errors.ts'

/**
 * @param root empty where no folder is allowed
 * @param folder absolute, or relative to the root
 * @returns its real path, and its path below the root ("." is the root itself)
 * @throws {DatasetError} `folder_not_allowed`, whatever lies or does not lie elsewhere
 */
export async function findServerFolder(
  root: string,
  folder: string,
): Promise<{ real: string; below: string }> {
  if (root === '') {
    const message = 'folder: expected none, since ATELIER_DATASETS_ROOT is not set'
    throw new DatasetError('folder_not_allowed', message, { parameter: 'folder' })
  }
  try {
    const realRoot = await realpath(root)
    const real = await realpath(resolve(realRoot, folder))
    const below = relative(realRoot, real)
    const leadsOut = below === '..' || below.startsWith(`..${sep}`) || isAbsolute(below)
    if (!leadsOut && (await stat(real)).isDirectory()) return { real, below: below === '' ? '.' : below }
  } catch (error) {
    throw notAllowed(folder, error)
  }
  throw notAllowed(folder)
}

function notAllowed(folder: string, cause?: unknown): DatasetError {
  const message = `folder: expected a folder below ATELIER_DATASETS_ROOT, got ${JSON.stringify(folder.slice(0, 200))}`
  return new DatasetError('folder_not_allowed', message, { parameter: 'folder', cause })
}
