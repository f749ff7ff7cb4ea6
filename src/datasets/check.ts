/**
 * One attempt at a dataset's files. Another process may be at the same dataset where this one was stopped for long: so files are written
 * under names of the attempt's own or of their bytes, and what is not needed is removed once the dataset is ready, when nobody writes.
 */
import { existsSync } from 'node:fs'
import { glob, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { everyProject } from '../access/project.ts'
import { archiveEntries } from './archive.ts'
import type { Claim, DatasetClaims } from './claims.ts'
import { folderEntries } from './folder-entries.ts'
import type { DatasetLimits } from './limits.ts'
import { copiedInto, uncheckedFolder } from './picture-files.ts'
import type { DatasetReader } from './reader.ts'
import { findServerFolder } from './server-folder.ts'
import { validate } from './validate.ts'

export interface CheckOptions {
  readonly foldersRoot: string
  readonly limits: DatasetLimits
  readonly claims: DatasetClaims
  readonly reader: DatasetReader
  readonly log: Logger
}

/** @param attempt its number @param folder the dataset's @throws {ClaimLost}; {@link DatasetError}; the signal's reason; what database and disk run into */
export async function checkDataset(
  claim: Claim,
  attempt: number,
  folder: string,
  { foldersRoot, limits, claims, reader, log }: CheckOptions,
  signal: AbortSignal,
): Promise<void> {
  const { id } = claim
  const dataset = await reader.get(everyProject, id)
  signal.throwIfAborted()
  if (!dataset) return
  await claims.beginAnew(claim)
  const isFirst = !existsSync(picturesIn(folder))
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const { source, labels } = dataset
    const entries =
      source.kind === 'upload'
        ? archiveEntries(uploadIn(folder), limits)
        : folderEntries((await findServerFolder(foldersRoot, source.folder)).real)
    const files = copiedInto(folder, attempt)
    const counts = await validate(claim, entries, claims, { files, limits, labels, signal })
    await claims.succeed(claim, counts)
    log.info({ datasetId: id, ...counts }, 'dataset ready')
  } finally {
    await rm(uncheckedFolder(folder, attempt), { recursive: true, force: true })
  }
  await removeAllButPictures(folder)
  if (!isFirst) await removeUnlisted(id, folder, reader)
}

/** Where an upload lies until it is checked. */
export const uploadIn = (folder: string): string => join(folder, 'upload')

const picturesIn = (folder: string): string => join(folder, 'pictures')

/** Of a dataset that is ready. */
export async function removeAllButPictures(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name !== 'pictures') await rm(join(folder, name), { recursive: true, force: true })
}

/** Pictures that an earlier attempt has found, and the one that counts has not. */
async function removeUnlisted(id: string, folder: string, reader: DatasetReader): Promise<void> {
  const listed = new Set<string>()
  for await (const { file } of reader.trainingItems(id, folder)) listed.add(file)
  for await (const name of glob('*/*', { cwd: picturesIn(folder) })) {
    const file = join(picturesIn(folder), name)
    if (!listed.has(file)) await rm(file, { force: true })
  }
}
