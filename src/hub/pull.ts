/**
 * Fetches a checkpoint from a hub. Its files gather in a folder beside the wanted one, where nobody looks for models, and take its
 * place when all of them are there and verified. What was gathered stays when that fails, and the next pull goes on with it.
 */
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { refuseFullDisk } from '../weights/folder-writer.ts'
import { tryLock } from '../weights/lock.ts'
import { download } from './download.ts'
import { HubError } from './errors.ts'
import { filesToPull, listRepository, type RemoteFile, type Repository } from './repository.ts'

export interface PullOptions {
  readonly signal?: AbortSignal
  readonly onListed?: (listed: { readonly files: number; readonly totalBytes: number }) => void
  readonly onBytes?: (path: string, bytes: number) => void
  readonly retryMs?: number
}

export interface Pulled {
  readonly commit: string
  readonly files: readonly RemoteFile[]
}

/** What can be served, and what a fine-tuning job may begin with. */
const pipelines = ['PixArtAlphaPipeline', 'DiTPipeline']

/**
 * @param path the folder to make; what is around it is made as well
 * @throws {HubError} when the folder is there, the repository holds no checkpoint of ours, or a file cannot be had as it should be
 * @throws {WeightsError} when the disk has too little space
 */
export async function pull(repository: Repository, path: string, options: PullOptions = {}): Promise<Pulled> {
  const folder = resolve(path)
  const gathering = join(dirname(folder), `.${basename(folder)}.pull`)
  await refuseTaken(folder)
  await mkdir(gathering, { recursive: true })
  const lock = (await tryLock(join(gathering, 'lock'))) ?? (await tryLock(join(gathering, 'lock')))
  if (!lock) throw new HubError(`${folder}: expected a folder that no other process is pulling`)
  try {
    const pulled = await gather(repository, join(gathering, 'checkpoint'), options)
    await rename(join(gathering, 'checkpoint'), folder)
    await rm(gathering, { recursive: true })
    return pulled
  } finally {
    await lock.release()
  }
}

async function gather(
  repository: Repository,
  folder: string,
  { signal, onListed, onBytes, retryMs }: PullOptions,
): Promise<Pulled> {
  const { commit, files: all } = await listRepository(repository)
  const files = filesToPull(all)
  const index = files.find(({ path }) => path === 'model_index.json')
  if (!index) {
    const message = `${repository.name}: expected a checkpoint in the diffusers layout, got none: model_index.json is missing`
    throw new HubError(message)
  }
  const from = { repository, commit, folder, signal, retryMs }
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  await mkdir(folder, { recursive: true })
  await refuseFullDisk(folder, totalBytes - (await bytesIn(folder)))
  onListed?.({ files: files.length, totalBytes })
  // It says what this is, before many gigabytes of it come.
  await download(index, { ...from, onBytes: (bytes) => onBytes?.(index.path, bytes) })
  await refuseOtherPipelines(repository, join(folder, index.path))
  for (const file of files) {
    if (file === index) continue
    await download(file, { ...from, onBytes: (bytes) => onBytes?.(file.path, bytes) })
  }
  await removeOthers(folder, new Set(files.map(({ path }) => path)))
  return { commit, files }
}

async function refuseOtherPipelines({ name }: Repository, file: string): Promise<void> {
  const { _class_name: pipeline } = parse(await readFile(file, 'utf8'))
  if (typeof pipeline === 'string' && pipelines.includes(pipeline)) return
  const got = JSON.stringify(pipeline ?? null)
  throw new HubError(
    `${name}: expected a ${pipelines.join(' or a ')} in model_index.json, got ${got}; nothing more was fetched`,
  )
}

function parse(text: string): { readonly _class_name?: unknown } {
  try {
    return (JSON.parse(text) ?? {}) as { readonly _class_name?: unknown }
  } catch {
    return {}
  }
}

async function refuseTaken(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new HubError(`${folder}: expected a folder to make: ${error.message}`, { cause: error })
  })
  if (names.length > 0) throw new HubError(`${folder}: expected nothing there, or an empty folder, got files`)
}

/** What an earlier pull gathered of another revision. */
async function removeOthers(folder: string, wanted: ReadonlySet<string>): Promise<void> {
  for (const path of await pathsIn(folder)) if (!wanted.has(path)) await rm(join(folder, path))
}

async function bytesIn(folder: string): Promise<number> {
  const sizes = await Promise.all(
    (await pathsIn(folder)).map(async (path) => (await stat(join(folder, path))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

async function pathsIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
}
