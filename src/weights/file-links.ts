/** Files that two models have in common, without a second copy of their bytes. */
import { copyFile, link, mkdir, readdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { isSystemError } from './files.ts'

/** All files of a folder, those within its folders not. */
export async function linkFolder(from: string, to: string): Promise<void> {
  await mkdir(to)
  const entries = await readdir(from, { withFileTypes: true })
  for (const { name } of entries.filter((entry) => !entry.isDirectory()))
    await linkFile(join(from, name), join(to, name))
}

/**
 * A second name for the file itself, where both are on one disk that knows such names. Configurations are copied: whoever edits one
 * must not change the other model.
 */
export async function linkFile(from: string, to: string): Promise<void> {
  const file = await realpath(from)
  if (to.endsWith('.json')) return copyFile(file, to)
  return link(file, to).catch((error: unknown) => {
    const cannot = ['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EACCES'].some((code) =>
      isSystemError(error, code),
    )
    if (!cannot) throw error
    return copyFile(file, to)
  })
}
