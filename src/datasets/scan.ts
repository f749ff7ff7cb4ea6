/** Reads and checks a folder where it lies, without a database: what the command line trains on. */
import { realpath, stat } from 'node:fs/promises'
import { DatasetError, messageOf } from './errors.ts'
import { folderEntries } from './folder-entries.ts'
import type { LabelSource } from './join.ts'
import { defaultLimits, type DatasetLimits } from './limits.ts'
import { inPlace } from './picture-files.ts'
import { readEntries, type Reading } from './read-entries.ts'

export type { CheckedItem } from './join.ts'
export type { Problem } from './problems.ts'
export type { Reading } from './read-entries.ts'

/**
 * @param folder of pictures, captions and metadata, as `GET /openapi.yaml` describes datasets
 * @throws {DatasetError} when it is no folder, is too large or has no pictures
 */
export async function* readFolder(
  folder: string,
  { limits = defaultLimits, labels = 'auto' }: { limits?: DatasetLimits; labels?: LabelSource } = {},
): AsyncGenerator<Reading, void, undefined> {
  const root = await findFolder(folder)
  yield* readEntries(folderEntries(root), { files: inPlace, limits, labels })
}

async function findFolder(folder: string): Promise<string> {
  const expected = `expected a folder of pictures, got ${folder}`
  try {
    const root = await realpath(folder)
    if ((await stat(root)).isDirectory()) return root
  } catch (error) {
    throw new DatasetError('folder_not_allowed', `${expected}: ${messageOf(error)}`, { cause: error })
  }
  throw new DatasetError('folder_not_allowed', `${expected}, which is none`)
}
